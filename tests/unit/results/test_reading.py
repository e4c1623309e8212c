from pathlib import Path

import pandas as pd
import pytest

from perturbflow.results.reading import MissingResultError, read_results


def records(table: pd.DataFrame) -> list[dict[str, object]]:
    return table.astype(object).where(table.notna(), None).to_dict("records")


def test_read_results_keeps_names_as_text(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("classifier,denoiser,top1\n007,NA,0.5\n1e3,none,\n")
    frame = read_results([str(path), str(path)])
    assert frame["classifier"].tolist() == ["007", "1e3"] * 2
    assert frame["denoiser"].tolist() == ["NA", "none"] * 2
    assert frame["top1"].isna().tolist() == [False, True] * 2


def test_read_results_takes_names_from_the_path(tmp_path: Path) -> None:
    paths = [
        tmp_path / "distances/007/NA_images.csv.gz",
        tmp_path / "interventions/vgg19/x_images_images.csv.gz",
        tmp_path / "predictions/vgg19/x_images.csv.gz",
        tmp_path / "mse/1e3_images.csv.gz",
    ]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        denoisers = ["none", "12"] if "mse" in path.parts else ["12", "NA"]
        pd.DataFrame({"denoiser": denoisers, "position": 1, "index": [2, 3], "cosine": [0.5, None]}).to_csv(
            path, index=False
        )
    frame = read_results(map(str, paths))
    assert records(frame) == [
        {
            "denoiser": denoiser,
            "position": 1,
            "index": index,
            "cosine": cosine,
            "classifier": classifier,
            "adversarial_set": name,
            "replicate": 0,
        }
        for classifier, name in [("007", "NA"), ("vgg19", "x_images"), ("vgg19", "x_images"), (None, "1e3")]
        for denoiser, index, cosine in [
            ("none" if name == "1e3" else "12", 2, 0.5),
            ("12" if name == "1e3" else "NA", 3, None),
        ]
    ]
    names = ["denoiser", "classifier", "adversarial_set"]
    assert all(isinstance(dtype, pd.CategoricalDtype) for dtype in read_results(map(str, paths[:2]))[names].dtypes)


def test_read_results_takes_replicates_from_the_path(tmp_path: Path) -> None:
    paths = [tmp_path / folder / "mse/fgsm.csv" for folder in ("", "replicates/2")]
    for path in paths:
        path.parent.mkdir(parents=True)
        pd.DataFrame({"mse_px2": [1.0, 2.0]}).to_csv(path, index=False)
    assert read_results(map(str, paths))["replicate"].tolist() == [0, 0, 2, 2]


def test_read_results_keeps_names_that_the_file_has(tmp_path: Path) -> None:
    path = tmp_path / "distances/vgg19/fgsm_images.csv.gz"
    path.parent.mkdir(parents=True)
    path_of_all = tmp_path / "distances/vgg19/fgsm.csv"
    frame = pd.DataFrame({"classifier": ["a", "b"], "denoiser": "none", "index": [1, 2]})
    for file in (path, path_of_all):
        frame.to_csv(file, index=False)
    assert read_results(str(path))["classifier"].tolist() == ["a", "b"]
    assert read_results(str(path_of_all)).columns.tolist() == ["classifier", "denoiser", "index", "replicate"]


def test_read_results_reads_the_columns_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "distances/vgg19/fgsm_images.csv.gz"
    path.parent.mkdir(parents=True)
    pd.DataFrame({"denoiser": ["none"], "position": 1, "index": 0, "cosine": 0.5}).to_csv(path, index=False)
    frame = read_results(str(path), ["index", "cosine", "not_there"])
    assert frame.columns.tolist() == ["index", "cosine", "classifier", "adversarial_set", "replicate"]
    assert read_results([]).empty


def test_read_results_names_a_missing_or_empty_file(tmp_path: Path) -> None:
    with pytest.raises(MissingResultError, match=r"gone\.csv"):
        read_results(str(tmp_path / "gone.csv"))
    (tmp_path / "empty.csv").touch()
    with pytest.raises(MissingResultError, match=r"empty\.csv"):
        read_results(str(tmp_path / "empty.csv"))
