# The paper's tables, for the numbers beside ours; relative, so that a moved repository reruns nothing.
PAPER = os.path.relpath(Path(workflow.basedir) / "resources/paper")

TABLE1 = config["tables"]["table1"]
MODIFIED = config["tables"]["table7"]["classifiers"]
UNMODIFIED = [name for name in CLASSIFIERS if name not in MODIFIED]
NORM_OF = {name: config["adversarial_sets"][name]["norm_of"] for name in NOISE}


def paper(table):
    return f"{PAPER}/{table}.csv"


def of_sets(pattern, classifiers=(), adversarial_sets=SETS):
    """The files of each set, or of each classifier and set."""
    return expand(f"{RESULTS}/{pattern}", classifier=classifiers or [""], adversarial_set=adversarial_sets)


def clean_accuracy(classifiers):
    return expand(f"{RESULTS}/classifiers/{{classifier}}/accuracy.csv", classifier=classifiers)


MSE = of_sets("mse/{adversarial_set}.csv")
ACCURACY = "accuracy/{classifier}/{adversarial_set}.csv"
DISTANCES = of_sets("distances/{classifier}/{adversarial_set}_images.csv.gz", CLASSIFIERS)
PREDICTIONS = of_sets("predictions/{classifier}/{adversarial_set}.csv.gz", CLASSIFIERS)
ROLES = dict.fromkeys(
    config["adversarial_sets"][name][role]
    for name in ATTACKED
    for role in ("attacker", "stopping_classifier")
    if config["adversarial_sets"][name][role]
)

# Of each table the inputs and params, named as the arguments of its function in perturbflow/tables.py.
TABLES = {
    "table1": (
        {"paper": paper("table1"), "mse": MSE, "accuracy": of_sets(ACCURACY, [TABLE1["classifier"]])},
        {"adversarial_sets": SETS, **TABLE1},
    ),
    "table2": (
        {"paper": paper("table2"), "clean_accuracy": clean_accuracy(ROLES)},
        {"adversarial_sets": config["adversarial_sets"]},
    ),
    "table3": (
        {"paper": paper("table3"), "clean_accuracy": clean_accuracy(CLASSIFIERS)},
        {"classifiers": CLASSIFIERS},
    ),
    "table4": ({"paper": paper("table4"), "mse": MSE}, {"adversarial_sets": SETS, "denoisers": DENOISERS}),
}
if UNMODIFIED:
    TABLES["table5"] = (
        {"paper": paper("table5"), "accuracy": of_sets(ACCURACY, UNMODIFIED)},
        {"classifiers": UNMODIFIED, "adversarial_sets": SETS, "denoisers": DENOISERS},
    )
if MODIFIED:
    TABLES["table7"] = (
        {"paper": paper("table7"), "accuracy": of_sets(ACCURACY, MODIFIED)},
        {"classifiers": MODIFIED, "adversarial_sets": SETS, "denoisers": DENOISERS},
    )


for table, (inputs, settings) in TABLES.items():

    rule:
        name:
            table
        input:
            **inputs,
        output:
            csv=report(
                f"{RESULTS}/tables/{table}.csv",
                caption=f"../report/{table}.rst",
                category="Tables",
                labels={"table": table, "format": "CSV"},
            ),
            markdown=report(
                f"{RESULTS}/tables/{table}.md",
                caption=f"../report/{table}.rst",
                category="Tables",
                labels={"table": table, "format": "Markdown"},
            ),
        log:
            f"{RESULTS}/logs/tables/{table}.log",
        conda:
            "../../envs/figures.yaml"
        threads: 1
        resources:
            mem_mb=4000,
            runtime=30,
        params:
            **settings,
            code=code("tables.py"),
        script:
            "../scripts/tables.py"
