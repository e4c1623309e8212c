# The paper's tables, for the numbers beside ours; relative, so that a moved repository reruns nothing.
PAPER = os.path.relpath(Path(workflow.basedir) / "resources/paper")


rule table1:
    input:
        paper=f"{PAPER}/table1.csv",
        mse=expand(f"{RESULTS}/mse/{{adversarial_set}}.csv", adversarial_set=SETS),
        accuracy=expand(
            f"{RESULTS}/accuracy/{config['tables']['table1']['classifier']}/{{adversarial_set}}.csv",
            adversarial_set=SETS,
        ),
    output:
        csv=report(
            f"{RESULTS}/tables/table1.csv",
            caption="../report/table1.rst",
            category="Tables",
            labels={"table": "1", "format": "CSV"},
        ),
        markdown=report(
            f"{RESULTS}/tables/table1.md",
            caption="../report/table1.rst",
            category="Tables",
            labels={"table": "1", "format": "Markdown"},
        ),
    log:
        f"{RESULTS}/logs/tables/table1.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        adversarial_sets=SETS,
        classifier=config["tables"]["table1"]["classifier"],
        denoiser=config["tables"]["table1"]["denoiser"],
        code=code("tables.py"),
    script:
        "../scripts/tables.py"


rule table2:
    input:
        paper=f"{PAPER}/table2.csv",
        clean_accuracy=expand(
            f"{RESULTS}/classifiers/{{classifier}}/accuracy.csv",
            classifier=dict.fromkeys(
                adversarial_set[role]
                for adversarial_set in config["adversarial_sets"].values()
                for role in ("attacker", "stopping_classifier")
                if adversarial_set[role]
            ),
        ),
    output:
        csv=report(
            f"{RESULTS}/tables/table2.csv",
            caption="../report/table2.rst",
            category="Tables",
            labels={"table": "2", "format": "CSV"},
        ),
        markdown=report(
            f"{RESULTS}/tables/table2.md",
            caption="../report/table2.rst",
            category="Tables",
            labels={"table": "2", "format": "Markdown"},
        ),
    log:
        f"{RESULTS}/logs/tables/table2.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        adversarial_sets=config["adversarial_sets"],
        code=code("tables.py"),
    script:
        "../scripts/tables.py"


rule table3:
    input:
        paper=f"{PAPER}/table3.csv",
        clean_accuracy=expand(f"{RESULTS}/classifiers/{{classifier}}/accuracy.csv", classifier=CLASSIFIERS),
    output:
        csv=report(
            f"{RESULTS}/tables/table3.csv",
            caption="../report/table3.rst",
            category="Tables",
            labels={"table": "3", "format": "CSV"},
        ),
        markdown=report(
            f"{RESULTS}/tables/table3.md",
            caption="../report/table3.rst",
            category="Tables",
            labels={"table": "3", "format": "Markdown"},
        ),
    log:
        f"{RESULTS}/logs/tables/table3.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        classifiers=CLASSIFIERS,
        code=code("tables.py"),
    script:
        "../scripts/tables.py"


rule table4:
    input:
        paper=f"{PAPER}/table4.csv",
        mse=expand(f"{RESULTS}/mse/{{adversarial_set}}.csv", adversarial_set=SETS),
    output:
        csv=report(
            f"{RESULTS}/tables/table4.csv",
            caption="../report/table4.rst",
            category="Tables",
            labels={"table": "4", "format": "CSV"},
        ),
        markdown=report(
            f"{RESULTS}/tables/table4.md",
            caption="../report/table4.rst",
            category="Tables",
            labels={"table": "4", "format": "Markdown"},
        ),
    log:
        f"{RESULTS}/logs/tables/table4.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        adversarial_sets=SETS,
        denoisers=DENOISERS,
        code=code("tables.py"),
    script:
        "../scripts/tables.py"


rule table5:
    input:
        paper=f"{PAPER}/table5.csv",
        accuracy=expand(
            f"{RESULTS}/accuracy/{{classifier}}/{{adversarial_set}}.csv",
            classifier=CLASSIFIERS,
            adversarial_set=SETS,
        ),
    output:
        csv=report(
            f"{RESULTS}/tables/table5.csv",
            caption="../report/table5.rst",
            category="Tables",
            labels={"table": "5", "format": "CSV"},
        ),
        markdown=report(
            f"{RESULTS}/tables/table5.md",
            caption="../report/table5.rst",
            category="Tables",
            labels={"table": "5", "format": "Markdown"},
        ),
    log:
        f"{RESULTS}/logs/tables/table5.log",
    conda:
        "../../envs/figures.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        classifiers=CLASSIFIERS,
        adversarial_sets=SETS,
        denoisers=DENOISERS,
        code=code("tables.py"),
    script:
        "../scripts/tables.py"
