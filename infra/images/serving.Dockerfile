# The router: no torch, no MLflow. HOME and /tmp are volumes, so the root may be read-only.
FROM python:3.11-slim
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/app HOME=/var/evergreen DO_NOT_TRACK=1
WORKDIR /app
COPY serving/requirements.txt serving/requirements.txt
RUN pip install --no-cache-dir --no-deps -r serving/requirements.txt
COPY absa absa
COPY serving serving
# The pattern lets evergreen.toml be missing; a COPY needs one source that exists
COPY serving/requirements.txt evergreen.tom[l] ./
RUN useradd --uid 10001 --home-dir /var/evergreen --create-home evergreen
VOLUME ["/var/evergreen", "/tmp"]
USER 10001
EXPOSE 8080 8081
CMD ["python", "-m", "serving"]
