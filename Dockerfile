# Everything that perturbflow needs, with Snakemake as its command. The workflow itself is not in the image: it is the
# clone that is mounted at /perturbflow, so that its config and code can be edited.
#
#   docker build --tag perturbflow .
#   docker run --rm --init --user "$(id -u):$(id -g)" --volume "$PWD:/perturbflow" perturbflow --cores 8
#
# With `--gpus all` before the image's name the jobs see the GPUs. containers/perturbflow.def is the same for Apptainer.
FROM python:3.11.14-slim-bookworm

# git names the commit in the artifacts; the compiler is for `compute.compile`.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ git \
    && rm -rf /var/lib/apt/lists/*

COPY requirements.txt /opt/perturbflow/
RUN pip install --no-cache-dir --requirement /opt/perturbflow/requirements.txt

# It may run as any user, known to the image or not: caches lie where all may write, and torch finds a name to ask for.
ENV HOME=/home/perturbflow \
    USER=perturbflow
RUN install --directory --mode=1777 /home/perturbflow

USER 1000:1000
WORKDIR /perturbflow
ENTRYPOINT ["snakemake"]
