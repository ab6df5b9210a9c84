# The router, without torch and MLflow. HOME and /tmp are volumes, so the root can be read-only.
FROM python:3.11-slim
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/app HOME=/var/evergreen DO_NOT_TRACK=1
WORKDIR /app
COPY serving/requirements.txt serving/requirements.txt
RUN pip install --no-cache-dir --no-deps -r serving/requirements.txt
COPY absa absa
COPY serving serving
# The pattern allows a missing evergreen.toml, but a COPY needs one source that exists
COPY serving/requirements.txt evergreen.tom[l] ./
# Without the files of /etc/skel: a restore needs an empty volume
RUN useradd --uid 10001 --home-dir /var/evergreen evergreen && install --directory --owner=10001 --group=10001 --mode=700 /var/evergreen
VOLUME ["/var/evergreen", "/tmp"]
USER 10001
EXPOSE 8080 8081
CMD ["python", "-m", "serving"]
