"""Tables of stars that are longer than memory: read in blocks, each number to its last digit."""
import numpy as np
import pandas as pd
import pytest

from spectra import star_tables

TEXT = ("\ufeffsnr,karmn,extra,odd,file\n100,A,x,giant,a.csv\n,\"two\nlines, B\",,,\"b\nb.csv\"\n\n"
        "0.1000000000000000055,C\u200b,,NA,nan\n1e2,J1,1,,001\n")


@pytest.mark.parametrize("size, numbers", [(1, [1, 1, 1, 1]), (3, [3, 1]), (4, [4]), (9, [4])])
def test_blocks_hold_all_rows(size, numbers, tmp_path):
    path = tmp_path / "stars.csv"
    path.write_bytes(TEXT.encode())
    places = star_tables.blocks(path, size, "mend it")
    assert [n for n, *_ in places] == numbers
    table = pd.concat([star_tables.read_block(path, start, stop, "mend it") for _, start, stop in places])
    assert table["karmn"].tolist() == ["A", "two lines, B", "C", "J1"]
    assert table["file"].tolist() == ["a.csv", "b\nb.csv", "nan", "001"]
    assert table["odd"].tolist() == ["giant", "", "NA", ""]
    np.testing.assert_array_equal(table["snr"], [100, np.nan, 0.1, 100])
    assert table["rv"].isna().all() and (table["instrument"] == "").all()


@pytest.mark.parametrize("pixels, text", [([], ""), ([0, 1, 2, 9], "0-2 9-9"), ([4], "4-4"), (range(10), "0-9")])
def test_stretches_of_pixels_are_told_and_read(pixels, text):
    mask = np.isin(np.arange(10), pixels)
    assert star_tables.ranges(mask) == text and (star_tables.masks([text, ""], 10) == [mask, np.zeros(10, bool)]).all()


@pytest.mark.parametrize("text", ["7-12", "5", "5-3", "-1-3", "a-b", "1-2-3", "1.0-2.0"])
def test_what_is_no_stretch_of_pixels_is_refused(text):
    with pytest.raises(ValueError, match=f"^{text} is no stretch of 10 pixels$"):
        star_tables.masks([text], 10)
