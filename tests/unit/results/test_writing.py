import gzip

import numpy as np
import pandas as pd
import pytest

from perturbflow.results.writing import write_csv

FRAME = pd.DataFrame(
    {"name": ["a", 'b, "c"', "ü"], "value": [0.1, np.nan, 1e-300], "is": [True, False, True]}, [3, 3, 1]
)
TEXT = 'name,value,is\na,0.1,True\n"b, ""c""",,False\nü,1e-300,True\n'


def test_names_that_end_with_gz_are_compressed(tmp_path):
    write_csv(FRAME, tmp_path / "new/plain.csv")
    write_csv(FRAME, str(tmp_path / "set.csv.gz"))
    assert (tmp_path / "new/plain.csv").read_bytes().decode() == TEXT
    assert gzip.decompress((tmp_path / "set.csv.gz").read_bytes()).decode() == TEXT


def test_equal_frames_give_equal_files(tmp_path, monkeypatch):
    """At any time and in any process: neither stands in the header of gzip, which names the file."""
    write_csv(FRAME, tmp_path / "set.csv.gz")
    expected = (tmp_path / "set.csv.gz").read_bytes()
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("os.getpid", lambda: 12345)
    write_csv(FRAME, tmp_path / "set.csv.gz")
    assert (tmp_path / "set.csv.gz").read_bytes() == expected
    assert b"set.csv\0" in expected


@pytest.mark.parametrize("name", ["set.csv", "set.csv.gz"])
def test_a_file_appears_when_it_is_whole(tmp_path, name, monkeypatch):
    class Full(pd.DataFrame):
        def to_csv(self, file, **options):
            file.write(b"name,value\n")
            raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_csv(Full(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []
