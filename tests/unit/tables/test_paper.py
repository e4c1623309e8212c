import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from perturbflow.results.reading import MissingResultError, read_results
from perturbflow.tables import table1 as module1
from perturbflow.tables import table2 as module2
from perturbflow.tables import table3 as module3
from perturbflow.tables import table4 as module4
from perturbflow.tables import table5 as module5
from perturbflow.tables import table7 as module7
from perturbflow.tables.markdown import three_significant
from perturbflow.tables.table1 import table1
from perturbflow.tables.table2 import table2
from perturbflow.tables.table3 import table3
from perturbflow.tables.table4 import table4
from perturbflow.tables.table5 import table5
from perturbflow.vocabulary import Labels

ROOT = Path(__file__).parents[3]
TABLES = {
    "table1": module1.TABLE,
    "table2": module2.TABLE,
    "table3": module3.TABLE,
    "table4": module4.TABLE,
    "table5": module5.TABLE,
    "table7": module7.TABLE,
}
PAPER = {name: read_results(str(ROOT / f"resources/paper/{name}.csv")) for name in TABLES}
SETS = ["fgsm_v2", "own_set"]
DENOISERS = ["unet", "own_denoiser"]
CONDITIONS = ["none", *DENOISERS]
CLASSIFIERS = ["vgg19", "own_classifier"]


def mse_frame() -> pd.DataFrame:
    """`own_set` has 10 times the error, validation adds 1, denoiser number n takes 0.1 n."""
    return pd.DataFrame(
        {
            "adversarial_set": name,
            "denoiser": denoiser,
            "split": split,
            "mse_px2": (10.0 if name == "own_set" else 1.0) + (split == "val") - 0.1 * number,
            "n_images": 10 if split == "val" else 100,
        }
        for name in SETS
        for number, denoiser in enumerate(CONDITIONS)
        for split in ("train", "val")
    )


def accuracy_frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "classifier": classifier,
            "adversarial_set": name,
            "denoiser": denoiser,
            "split": split,
            "top1": 0.25 + 0.125 * number + (0.01 if split == "val" else 0) + (0.3 if classifier == "vgg19" else 0),
            "n_images": 10 if split == "val" else 100,
        }
        for classifier in CLASSIFIERS
        for name in SETS
        for number, denoiser in enumerate(CONDITIONS)
        for split in ("train", "val")
    )


def clean_accuracy_frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "classifier": classifier,
            "split": split,
            "top1": top1,
            "n_images": 10,
            "n_parameters": n_parameters,
            "n_layers": n_layers,
            "n_classes": 200,
        }
        for classifier, n_parameters, n_layers in [("vgg19", 140_390_000, 19), ("own_classifier", 1_500_000, 7)]
        for split, top1 in [("train", 0.99125), ("val", 0.5)]
    )


def parse_markdown(text: str) -> list[list[str]]:
    """The rows of a Markdown table, head first; fails when they differ in length."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert len({len(row) for row in rows}) == 1
    assert len({len(line) for line in lines}) == 1, "columns are not aligned"
    assert set("".join(rows[1])) <= set(":-")
    return [rows[0], *rows[2:]]


def records(table: pd.DataFrame) -> list[dict[str, object]]:
    return table.astype(object).where(table.notna(), None).to_dict("records")


def test_table1_values_and_paper() -> None:
    table = table1(mse_frame(), accuracy_frame(), PAPER["table1"], SETS, "vgg19", "vgg19", "unet")
    assert records(table) == [
        {
            "adversarial_set": name,
            "classifier": "vgg19",
            "denoiser": "unet",
            "split": "val",
            "n_images": 10,
            "mse_adversarial_px2": raw,
            "mse_adversarial_px2_paper": paper,
            "mse_denoised_px2": pytest.approx(raw - 0.1),
            "mse_denoised_px2_paper": None,
            "top1_adversarial_pct": pytest.approx(56),
            "top1_adversarial_pct_paper": None,
            "top1_denoised_pct": pytest.approx(68.5),
            "top1_denoised_pct_paper": None,
        }
        for name, raw, paper in [("fgsm_v2", 2.0, 6.018), ("own_set", 11.0, None)]
    ]


def test_table1_compares_the_papers_architecture_and_denoiser_alone() -> None:
    mse, accuracy = (frame.replace({"unet": "fusionnet"}) for frame in (mse_frame(), accuracy_frame()))

    def paper_numbers(classifier: str, architecture: str, denoiser: str) -> list[float | None]:
        table = table1(mse, accuracy, PAPER["table1"], SETS, classifier, architecture, denoiser)
        row = records(table.filter(like="_paper"))[0]
        return list(row.values())  # type: ignore[arg-type]

    assert paper_numbers("vgg19", "inception_resnet_v2", "fusionnet") == [6.018, 2.703, 27.06, 45.47]
    assert paper_numbers("own_classifier", "inception_resnet_v2", "own_denoiser") == [6.018, None, 27.06, None]
    assert paper_numbers("own_classifier", "vgg19", "fusionnet") == [6.018, 2.703, None, None]


def test_table2_values_and_paper() -> None:
    clean = clean_accuracy_frame().replace({"vgg19": "resnet18"})
    recipe = {"attack": "fgsm", "attacker": "resnet18", "step": 0.5, "max_steps": 20}
    sets = {
        "fgsm_v1": {**recipe, "stopping_classifier": "resnet18"},
        "fgsm_v2": {**recipe, "stopping_classifier": "own_classifier"},
        "own_set": {**recipe, "stopping_classifier": None, "decay": 0.9},
    }
    table = table2(clean, PAPER["table2"], sets, {"resnet18": "resnet18", "own_classifier": "vgg19"})
    assert table["adversarial_set"].tolist() == list(sets)
    assert table["attacker_top1_val_pct"].tolist() == [50, 50, 50]
    assert records(table[["attacker_top1_val_pct_paper"]]) == [
        {"attacker_top1_val_pct_paper": value} for value in (60, 60, None)
    ]
    assert records(table[["stopping_classifier_top1_val_pct", "stopping_classifier_top1_val_pct_paper"]]) == [
        {"stopping_classifier_top1_val_pct": ours, "stopping_classifier_top1_val_pct_paper": paper}
        for ours, paper in [(50, 60), (50, None), (None, None)]
    ]
    assert records(table[["step", "max_steps", "decay"]]) == [
        {"step": 0.5, "max_steps": 20, "decay": decay} for decay in (None, None, 0.9)
    ]
    rows = parse_markdown(TABLES["table2"].markdown(table, Labels()))
    assert rows[1:] == [
        ["FGSM v1", "FGSM", "ResNet-18", "ResNet-18", "50.0 (60)", "50.0 (60)", "0.5", "20", ""],
        ["FGSM v2", "FGSM", "ResNet-18", "own_classifier", "50.0 (60)", "50.0", "0.5", "20", ""],
        ["own_set", "FGSM", "ResNet-18", "none", "50.0", "", "0.5", "20", "0.9"],
    ]


def test_table2_compares_what_the_study_calls_otherwise() -> None:
    """The paper's 80% are those of the network that stops its attacks, however the study calls it."""
    recipe = {"attack": "fgsm", "attacker": "vgg19", "stopping_classifier": "own_classifier", "step": 1, "max_steps": 1}
    architectures = {"vgg19": "resnet18", "own_classifier": "inception_resnet_v2"}
    table = table2(clean_accuracy_frame(), PAPER["table2"], {"fgsm_v2": recipe}, architectures)
    columns = ["attacker_top1_val_pct_paper", "stopping_classifier_top1_val_pct_paper"]
    assert table[columns].to_numpy().tolist() == [[60, 80]]


def test_table2_of_all_kinds_of_sets() -> None:
    clean = clean_accuracy_frame()
    sets = {
        "adaptive": {
            "attack": "ifgsm",
            "attacker": "vgg19",
            "stopping_classifier": "own_classifier",
            "step": 0.5,
            "max_steps": 20,
            "denoiser": "unet",
            "round_to_8_bits": True,
        },
        "noise": {"attack": "sign_noise", "norm_of": "adaptive"},
        "pgd": {
            "attack": "LinfPGD",
            "attacker": "vgg19",
            "stopping_classifier": None,
            "epsilon": 8,
            "options": {"steps": 10, "random_start": False},
            "denoiser": None,
            "round_to_8_bits": False,
        },
        "boundless": {"attack": "L2DeepFoolAttack", "attacker": "vgg19", "epsilon": None, "options": {}},
    }
    table = table2(clean, PAPER["table2"], sets, {name: name for name in CLASSIFIERS})
    kinds = ["step", "max_steps", "decay", "epsilon", "norm_of", "denoiser", "round_to_8_bits", "options"]
    assert [list(row.values()) for row in records(table[kinds])] == [
        [0.5, 20, None, None, None, "unet", True, None],
        [None, None, None, None, "adaptive", None, False, None],
        [None, None, None, 8, None, None, False, '{"steps": 10, "random_start": false}'],
        [None, None, None, None, None, None, False, None],
    ]
    head, *rows = parse_markdown(TABLES["table2"].markdown(table, Labels()))
    assert [dict(zip(head, row, strict=True)) for row in rows] == [
        {
            "Adversarial set": name,
            "Attack": attack,
            "Attacker": attacker,
            "Stopping classifier": stopping,
            "Norm of": norm_of,
            "Denoiser": denoiser,
            "Rounded to 8 bits": rounded,
            "Options": options,
            "Attacker top-1 (%)": "50.0" if attacker else "",
            "Stopping classifier top-1 (%)": "50.0" if stopping == "own_classifier" else "",
            "Step (px)": step,
            "Max. steps": steps,
            "Epsilon": epsilon,
        }
        for name, attack, attacker, stopping, norm_of, denoiser, rounded, options, step, steps, epsilon in [
            ("adaptive", "i-FGSM", "VGG-19", "own_classifier", "", "U-Net", "yes", "", "0.5", "20", ""),
            ("noise", "Sign noise", "", "", "adaptive", "", "", "", "", "", ""),
            ("pgd", "LinfPGD", "VGG-19", "none", "", "", "", '`{"steps": 10, "random_start": false}`', "", "", "8"),
            ("boundless", "L2DeepFoolAttack", "VGG-19", "none", "", "", "", "", "", "", ""),
        ]
    ]


def test_table3_values_and_paper() -> None:
    table = table3(clean_accuracy_frame(), PAPER["table3"], CLASSIFIERS)
    assert records(table) == [
        {
            "classifier": classifier,
            "top1_train_pct": 99.125,
            "top1_train_pct_paper": top1_paper,
            "top1_val_pct": 50,
            "n_layers": n_layers,
            "n_layers_paper": n_layers_paper,
            "n_parameters_millions": millions,
            "n_parameters_millions_paper": millions_paper,
        }
        for classifier, top1_paper, n_layers, n_layers_paper, millions, millions_paper in [
            ("vgg19", 99.221, 19, 19, 140.39, 138.36),
            ("own_classifier", None, 7, None, 1.5, None),
        ]
    ]
    rows = parse_markdown(TABLES["table3"].markdown(table, Labels()))
    assert rows[1] == ["VGG-19", "99.12 (99.221)", "50.00", "19 (19)", "140.39 (138.36)"]
    assert rows[2] == ["own_classifier", "99.12", "50.00", "7", "1.50"]


def test_table4_values_and_paper() -> None:
    table = table4(mse_frame(), PAPER["table4"], SETS, DENOISERS)
    assert table["adversarial_set"].tolist() == ["fgsm_v2"] * 3 + ["own_set"] * 3
    assert table["denoiser"].tolist() == CONDITIONS * 2
    assert table["mse_train_px2"].tolist() == pytest.approx([1, 0.9, 0.8, 10, 9.9, 9.8])
    assert [row["mse_train_px2_paper"] for row in records(table)] == [13.439, 8.537, None, None, None, None]
    assert table["n_images"].tolist() == [100] * 6
    assert parse_markdown(TABLES["table4"].markdown(table, Labels())) == [
        ["Adversarial set", "Adversary", "U-Net", "own_denoiser"],
        ["FGSM v2", "1.00 (13.439)", "0.900 (8.537)", "0.800"],
        ["own_set", "10.0", "9.90", "9.80"],
    ]


def test_table5_values_and_paper() -> None:
    table = table5(accuracy_frame(), PAPER["table5"], CLASSIFIERS, SETS, DENOISERS)
    assert len(table) == 12
    first = table[(table["classifier"] == "vgg19") & (table["adversarial_set"] == "fgsm_v2")]
    assert first["denoiser"].tolist() == CONDITIONS
    assert first["top1_train_pct"].tolist() == pytest.approx([55, 67.5, 80])
    assert [row["top1_train_pct_paper"] for row in records(first)] == [27.7, 52.0, None]
    assert table.drop(first.index)["top1_train_pct_paper"].isna().all()
    assert parse_markdown(TABLES["table5"].markdown(table, Labels())) == [
        ["Adversarial set"]
        + [
            f"{name} {condition}"
            for name in ("VGG-19", "own_classifier")
            for condition in ("w/o DN", "w/ UN", "w/ own_denoiser")
        ],
        ["FGSM v2", "55.0 (27.7)", "67.5 (52.0)", "80.0", "25.0", "37.5", "50.0"],
        ["own_set", "55.0", "67.5", "80.0", "25.0", "37.5", "50.0"],
    ]


def test_table7_reads_like_table5() -> None:
    names = {"vgg19": "densenet201_conv", "own_classifier": "densenet201_prelu"}
    table = TABLES["table7"].build(
        accuracy_frame().replace(names), PAPER["table7"], list(names.values()), ["fgsm_v2"], ["unet"]
    )
    text = TABLES["table7"].markdown(table, Labels())
    assert text.startswith("**Table 7.**")
    assert parse_markdown(text) == [
        ["Adversarial set"]
        + [
            f"DenseNet-201 ({change}) {condition}"
            for change in ("FC→Conv", "PReLU after FC")
            for condition in ("w/o DN", "w/ UN")
        ],
        ["FGSM v2", "55.0 (31.6)", "67.5 (56.6)", "25.0 (30.7)", "37.5 (59.6)"],
    ]


def test_config_order_is_kept() -> None:
    table = table5(accuracy_frame(), PAPER["table5"], CLASSIFIERS[::-1], SETS[::-1], DENOISERS[::-1])
    head, *rows = parse_markdown(TABLES["table5"].markdown(table, Labels()))
    assert head[1:4] == ["own_classifier w/o DN", "own_classifier w/ own_denoiser", "own_classifier w/ UN"]
    assert [row[0] for row in rows] == ["own_set", "FGSM v2"]


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_the_papers_study_has_every_paper_number(name: str) -> None:
    """Fed with the paper's own numbers, each table finds one of them beside each of ours, and they agree."""
    classifiers = PAPER["table3"]["classifier"].tolist()
    modified = PAPER["table7"]["classifier"].unique().tolist()
    sets = PAPER["table4"]["adversarial_set"].tolist()
    long_mse = pd.concat(
        [
            pd.DataFrame({"adversarial_set": sets, "denoiser": denoiser, "split": split, "mse_px2": paper[column]})
            for split, paper, columns in [
                ("val", PAPER["table1"], {"none": "mse_adv_px2", "fusionnet": "mse_denoised_px2"}),
                (
                    "train",
                    PAPER["table4"],
                    {"none": "mse_adv_px2", "fusionnet": "mse_fusionnet_px2", "unet": "mse_unet_px2"},
                ),
            ]
            for denoiser, column in columns.items()
        ]
    ).assign(n_images=1)
    val = [
        pd.DataFrame({"adversarial_set": sets, "denoiser": denoiser, "split": "val", "top1": PAPER["table1"][column]})
        for denoiser, column in [("none", "top1_adv_pct"), ("fusionnet", "top1_denoised_pct")]
    ]
    train = (
        pd.concat([PAPER["table5"], PAPER["table7"]]).rename(columns={"top1_train_pct": "top1"}).assign(split="train")
    )
    accuracy = pd.concat([train, pd.concat(val).assign(classifier="inception_resnet_v2")]).assign(n_images=1)
    accuracy["top1"] /= 100
    of_paper = PAPER["table3"].drop(columns="replicate")
    clean = pd.DataFrame(
        [
            (classifier, "train", top1 / 100, n_layers, round(millions * 1e6))
            for classifier, top1, n_layers, millions in of_paper.itertuples(index=False)
        ]
        + [(classifier, "val", top1, 0, 0) for classifier, top1 in [("resnet18", 0.6), ("inception_resnet_v2", 0.8)]]
        + [(name, "val", 0.0, 0, 0) for name in classifiers if name != "inception_resnet_v2"],
        columns=["classifier", "split", "top1", "n_layers", "n_parameters"],
    )
    recipes = {
        row.adversarial_set: {
            "attack": "fgsm",
            "attacker": row.attacker,
            "stopping_classifier": row.stopping_classifier,
            "step": 1.0,
            "max_steps": 1,
        }
        for row in PAPER["table2"].itertuples()
    }
    denoisers, stopping = ["fusionnet", "unet"], "inception_resnet_v2"
    table = {
        "table1": lambda: table1(long_mse, accuracy, PAPER[name], sets, stopping, stopping, "fusionnet"),
        "table2": lambda: table2(clean, PAPER[name], recipes, {name: name for name in ("resnet18", stopping)}),
        "table3": lambda: table3(clean, PAPER[name], classifiers),
        "table4": lambda: table4(long_mse, PAPER[name], sets, denoisers),
        "table5": lambda: table5(accuracy, PAPER[name], classifiers, sets, denoisers),
        "table7": lambda: table5(accuracy, PAPER[name], modified, sets, denoisers),
    }[name]()
    beside = [column for column in table if column.endswith("_paper")]
    assert beside
    for column in beside:
        assert table[column.removesuffix("_paper")].tolist() == pytest.approx(table[column].tolist())


def test_missing_rows_name_file_and_keys() -> None:
    accuracy = accuracy_frame()
    accuracy = accuracy[~((accuracy["adversarial_set"] == "own_set") & (accuracy["denoiser"] == "unet"))]
    with pytest.raises(MissingResultError, match=r"accuracy/vgg19/own_set\.csv .*denoiser=unet, split=train"):
        table5(accuracy, PAPER["table5"], CLASSIFIERS, SETS, DENOISERS)
    with pytest.raises(MissingResultError, match=r"mse/fgsm_v1\.csv .*adversarial_set=fgsm_v1"):
        table4(mse_frame(), PAPER["table4"], ["fgsm_v1"], DENOISERS)
    with pytest.raises(MissingResultError, match=r"classifiers/vgg19/accuracy\.csv has no column n_layers"):
        table3(clean_accuracy_frame().drop(columns="n_layers"), PAPER["table3"], CLASSIFIERS)


def test_doubled_rows_are_refused() -> None:
    with pytest.raises(MissingResultError, match=r"mse/fgsm_v2\.csv has 2 rows"):
        table4(pd.concat([mse_frame(), mse_frame()]), PAPER["table4"], SETS, DENOISERS)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.00"),
        (0.05123, "0.0512"),
        (0.05, "0.0500"),
        (6.018, "6.02"),
        (13.439, "13.4"),
        (128.4, "128"),
        (1234.5, "1234"),
    ],
)
def test_three_significant(value: float, text: str) -> None:
    assert three_significant(value) == text


def test_labels_of_the_study_stand_in_place_of_the_names() -> None:
    labels = Labels(
        {
            "classifiers": {"vgg19": "Net"},
            "adversarial_sets": {"own_set": "PGD"},
            "denoisers": {"unet": "Mine", "own_denoiser": "Median"},
        }
    )

    def head_and_first_cells(name: str, table: pd.DataFrame) -> tuple[list[str], list[str]]:
        head, *rows = parse_markdown(TABLES[name].markdown(table, labels))
        return head, [row[0] for row in rows]

    accuracy = accuracy_frame()
    table = table1(mse_frame(), accuracy, PAPER["table1"], SETS, "vgg19", "vgg19", "unet")
    caption = TABLES["table1"].markdown(table, labels).split("\n")[0]
    assert "accuracy of Net on them, without and with the denoiser Mine." in caption
    assert head_and_first_cells("table1", table)[1] == ["FGSM v2", "PGD"]
    assert head_and_first_cells("table3", table3(clean_accuracy_frame(), PAPER["table3"], CLASSIFIERS))[1] == [
        "Net",
        "own_classifier",
    ]
    assert head_and_first_cells("table4", table4(mse_frame(), PAPER["table4"], SETS, DENOISERS)) == (
        ["Adversarial set", "Adversary", "Mine", "Median"],
        ["FGSM v2", "PGD"],
    )
    table = table5(accuracy, PAPER["table5"], ["vgg19"], SETS, DENOISERS)
    head = ["Adversarial set", "Net w/o DN", "Net w/ Mine", "Net w/ Median"]
    for name in ("table5", "table7"):
        assert head_and_first_cells(name, table) == (head, ["FGSM v2", "PGD"])
        assert "(DN: denoiser)." in TABLES[name].markdown(table, labels)
    assert "(DN: denoiser, UN: U-Net)." in TABLES["table5"].markdown(table, Labels())

    recipe = {"attack": "fgsm", "attacker": "vgg19", "stopping_classifier": "vgg19", "denoiser": "unet"}
    sets = {"own_set": recipe, "fgsm": {"attack": "sign_noise", "norm_of": "own_set"}}
    own = Labels({"classifiers": {"vgg19": "Net"}, "adversarial_sets": {"own_set": "PGD", "fgsm": "Noise"}})
    table = table2(clean_accuracy_frame(), PAPER["table2"], sets, {"vgg19": "vgg19"})
    rows = parse_markdown(TABLES["table2"].markdown(table, own))[1:]
    assert [row[:6] for row in rows] == [
        ["PGD", "FGSM", "Net", "Net", "", "U-Net"],
        ["Noise", "Sign noise", "", "", "PGD", ""],
    ]


def test_tables_and_figures_do_without_torch() -> None:
    names = ("tables.claims.table", "tables.decision_planes", "tables.table7", "figures.propagation")
    modules = ", ".join(f"perturbflow.{name}" for name in names)
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_tables_of_several_replicates_have_intervals() -> None:
    """Which their captions explain; numbers without are printed as they were."""
    bounds = {"interval_covers": "3 trainings and images"}
    accuracy = accuracy_frame().assign(top1_ci_low=0.25, top1_ci_high=0.75, **bounds)
    mse = mse_frame().assign(mse_px2_ci_low=0.125, mse_px2_ci_high=16.0, **bounds)
    note = "In brackets: 95% intervals, which cover 3 trainings and images."

    table = table5(accuracy, PAPER["table5"], CLASSIFIERS, SETS, DENOISERS)
    assert (table["top1_train_pct_ci_low"] == 25).all()
    assert (table["top1_train_pct_ci_high"] == 75).all()
    assert set(table["interval_covers"]) == {"3 trainings and images"}
    text = TABLES["table5"].markdown(table, Labels())
    assert note in text.split("\n")[0]
    assert parse_markdown(text)[1][1].endswith(" [25.0, 75.0] (27.7)")

    errors = table4(mse, PAPER["table4"], SETS, DENOISERS)
    assert (errors["mse_train_px2_ci_high"] == 16).all()
    text = TABLES["table4"].markdown(errors, Labels())
    assert note in text.split("\n")[0]
    assert all("[0.125, 16.0]" in cell for row in parse_markdown(text)[1:] for cell in row[1:])

    without = TABLES["table4"].markdown(table4(mse_frame(), PAPER["table4"], SETS, DENOISERS), Labels())
    assert "[" not in without and "intervals" not in without
