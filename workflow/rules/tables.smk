from perturbflow.vocabulary import PAPER_CLASSIFIERS, PAPER_SETS

# The paper's tables, for the numbers beside ours; relative, so that a moved repository reruns nothing.
PAPER = os.path.relpath(REPOSITORY / "resources/paper")

TABLE1 = config["tables"]["table1"]
MODIFIED = config["tables"]["table7"]["classifiers"]
UNMODIFIED = [name for name in CLASSIFIERS if name not in MODIFIED]
NORM_OF = {name: config["adversarial_sets"][name]["norm_of"] for name in NOISE}


def paper(table):
    return ancient(local(f"{PAPER}/{table}.csv"))  # no prefix of a module


def paper_files(inputs):
    """Those of a table's inputs that are the paper's."""
    return [file for name, file in inputs.items() if name.startswith("paper")]


def pooled(pattern, classifiers=()):
    """The files of each set, or of each classifier and set, that are of all replicates together."""
    return files_of_sets(pattern, classifiers, folder=POOLED)


def attack_results(adversarial_sets):
    return files_of_sets("adversarial/{adversarial_set}.csv", adversarial_sets=adversarial_sets)


MSE = pooled("mse/{adversarial_set}.csv")
ACCURACY = "accuracy/{classifier}/{adversarial_set}.csv"
DISTANCES = "distances/{classifier}/{adversarial_set}_images.csv.gz"
PREDICTIONS = "predictions/{classifier}/{adversarial_set}.csv.gz"
ROLES = dict.fromkeys(
    config["adversarial_sets"][name][role]
    for name in ATTACKED
    for role in ("attacker", "stopping_classifier")
    if config["adversarial_sets"][name][role]
)

PAPERS_SETS = [name for name in SETS if name in PAPER_SETS]
# By these Tables 1 and 2 find the paper's numbers: it trained one of them twice.
ARCHITECTURES = {name: settings["architecture"] for name, settings in config["classifiers"].items()}
# Any set tells the layers. A study without the paper's names its first one to the claims, which pass it over: what decides
# over an input stands in the params.
NAMED_TO_CLAIMS = PAPERS_SETS or SETS[:1]
# The paper's split of each table, or the one that there is.
TRAIN, VAL = SPLITS[0], SPLITS[-1]

# Of each table the inputs and params, named as the arguments of its function in perturbflow/tables.
TABLES = {}
if TABLE1:
    TABLES["table1"] = (
        {"paper": paper("table1"), "mse": MSE, "accuracy": pooled(ACCURACY, [TABLE1["classifier"]])},
        {"adversarial_sets": SETS, **TABLE1, "architecture": ARCHITECTURES[TABLE1["classifier"]], "split": VAL},
    )
TABLES["attacks"] = ({"sets": attack_results(SETS)}, {"adversarial_sets": SETS})
TABLES["table2"] = (
    {"paper": paper("table2"), "clean_accuracy": clean_accuracy(ROLES, POOLED)},
    {
        "adversarial_sets": config["adversarial_sets"],
        "architectures": {name: ARCHITECTURES[name] for name in ROLES},
        "split": VAL,
    },
)
TABLES["table3"] = (
    {"paper": paper("table3"), "clean_accuracy": clean_accuracy(CLASSIFIERS, POOLED)},
    {"classifiers": CLASSIFIERS, "splits": SPLITS},
)
TABLES["table4"] = (
    {"paper": paper("table4"), "mse": MSE},
    {"adversarial_sets": SETS, "denoisers": DENOISERS, "split": TRAIN},
)
if UNMODIFIED:
    TABLES["table5"] = (
        {"paper": paper("table5"), "accuracy": pooled(ACCURACY, UNMODIFIED)},
        {"classifiers": UNMODIFIED, "adversarial_sets": SETS, "denoisers": DENOISERS, "split": TRAIN},
    )
if MODIFIED:
    TABLES["table7"] = (
        {"paper": paper("table7"), "accuracy": pooled(ACCURACY, MODIFIED)},
        {"classifiers": MODIFIED, "adversarial_sets": SETS, "denoisers": DENOISERS, "split": TRAIN},
    )
TABLES["decision_planes"] = (
    {"predictions": files_of_sets(PREDICTIONS, CLASSIFIERS)},
    {"classifiers": CLASSIFIERS, "adversarial_sets": SETS, "denoisers": DENOISERS, "controls": NORM_OF},
)
if NORM_OF and "relative_error" in METRICS:
    TABLES["amplification"] = (
        {"distances_images": files_of_sets(DISTANCES, CLASSIFIERS, dict.fromkeys([*NORM_OF, *NORM_OF.values()]))},
        {"classifiers": CLASSIFIERS, "denoisers": DENOISERS, "controls": NORM_OF},
    )
if PAPERS_SETS or {*CLASSIFIERS} & {*PAPER_CLASSIFIERS}:
    TABLES["claims"] = (
        {
            "distances_images": files_of_sets(DISTANCES, CLASSIFIERS, PAPERS_SETS),
            "predictions": files_of_sets(PREDICTIONS, CLASSIFIERS, PAPERS_SETS),
            "mse_images": files_of_sets("mse/{adversarial_set}_images.csv.gz", adversarial_sets=PAPERS_SETS),
            "layers": files_of_sets(
                "distances/{classifier}/{adversarial_set}.csv", CLASSIFIERS, NAMED_TO_CLAIMS[:1], POOLED
            ),
            "paper_claims": paper("claims"),
            **{f"paper{number}": paper(f"table{number}") for number in (3, 4, 5, 7)},
        },
        {"classifiers": CLASSIFIERS, "adversarial_sets": NAMED_TO_CLAIMS, "denoisers": DENOISERS},
    )


# What training each classifier was to reach, where it is trained.
TARGETS = {
    name: settings["training"]["target_train_accuracy"] if settings["training"]["max_epochs"] else None
    for name, settings in config["classifiers"].items()
}


def classifiers_of(table):
    """The classifiers that a table shows."""
    own = {"attacks": [], "table2": ROLES, "table4": [], "table5": UNMODIFIED, "table7": MODIFIED}
    return [TABLE1["classifier"]] if table == "table1" else own.get(table, CLASSIFIERS)


def warned_of(table):
    """The files whose warnings a table gets: of what its params name."""
    controls_and_theirs = dict.fromkeys([*NORM_OF, *NORM_OF.values()])
    own = {"table2": [], "table3": [], "claims": NAMED_TO_CLAIMS, "amplification": controls_and_theirs}
    return {
        "warned_accuracy": clean_accuracy(classifiers_of(table)),
        "warned_attacks": attack_results(own.get(table, SETS)),
    }


def module_of(table):
    """The module that makes a table, whose code no other table depends on."""
    return "perturbflow.tables.claims.table" if table == "claims" else f"perturbflow.tables.{table}"


for table, (inputs, settings) in TABLES.items():

    rule:
        name:
            table
        input:
            **inputs,
            **warned_of(table),
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
            mem_mb=memory("table"),
            runtime=minutes("table"),
        params:
            **settings,
            labels=LABELS,
            replicates=config["replicates"],
            targets={name: TARGETS[name] for name in classifiers_of(table)},
            table=f"{module_of(table)}:TABLE",
            code={**code_with("table.py", module_of(table)), **digests(paper_files(inputs))},
        script:
            "../scripts/table.py"
