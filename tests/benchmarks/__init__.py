"""`make bench`: ours against a yardstick, in one run. Ratios last, absolute figures do not."""
