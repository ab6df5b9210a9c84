# Training, flows, MLflow, Prefect and Evidently; with the build argument MORE="-r requirements-ray.txt" also Ray.
# HOME and /tmp are volumes, so the root can be read-only.
FROM python:3.11-slim
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/app HOME=/var/evergreen DO_NOT_TRACK=1 MLFLOW_DISABLE_TELEMETRY=true
WORKDIR /app
ARG MORE=""
# https://download.pytorch.org/whl/cpu: PyTorch without CUDA
ARG PIP_EXTRA_INDEX_URL=""
COPY requirements.txt requirements.txt
COPY requirements-ray.txt requirements-ray.txt
COPY infra/images/requirements.txt infra/images/requirements.txt
RUN pip install --no-cache-dir -r requirements.txt -r infra/images/requirements.txt ${MORE}
COPY absa absa
COPY flows flows
COPY monitoring monitoring
COPY infra/__init__.py infra/__init__.py
COPY infra/restore.py infra/restore.py
COPY infra/capacity infra/capacity
COPY infra/cost infra/cost
# read by `evergreen cost` and `evergreen capacity`
COPY benchmarks/results benchmarks/results
# The pattern allows a missing evergreen.toml, but a COPY needs one source that exists
COPY requirements.txt evergreen.tom[l] ./
# Without the files of /etc/skel: a restore needs an empty volume
RUN useradd --uid 10001 --home-dir /var/evergreen evergreen && install --directory --owner=10001 --group=10001 --mode=700 /var/evergreen
VOLUME ["/var/evergreen", "/tmp"]
USER 10001
CMD ["python", "-m", "flows.deployments"]
