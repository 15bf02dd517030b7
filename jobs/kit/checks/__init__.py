"""
The checks of a weights file, one module each; DESIGN.md section 5 has the table.

    1 container, 2 signature, 4 schema, 5 numerics, 6 declaration, 7 generation, 8 fidelity, 9 privacy, 10 poisoning,
    11 utility; 0 transfer and 3 agreement are the portal's, 12 is the board.

They run from cheap to dear, and the first that fails stops. The same functions run at a site (`consortium check`) and
inside the centre's sandbox (child.py), with the same verdicts. Thresholds are the base generator's own (`checks` in its
config.json), and the programme says which checks run (`checks_run`). weights.py runs those of weights, synthetic.py
those of images.
"""
