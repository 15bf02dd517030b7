"""The site's own signing key in the data folder."""

import stat
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from portal import signing


def test_many_who_ask_at_once_get_one_private_key(tmp_path):
    for number in range(20):
        path, together = tmp_path / str(number) / "signing.key", Barrier(8)

        def ask(_, path=path, together=together):
            together.wait(10)
            return signing._made_once(path)

        with ThreadPoolExecutor(8) as threads:
            keys = set(threads.map(ask, range(8)))
        assert keys == {path.read_text()}
        assert [entry.name for entry in path.parent.iterdir()] == ["signing.key"]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
