# edgecar serve on the CPU. From the repository's root:
#
#   docker build -f engines/containers/service.Dockerfile -t edgecar-service .
#
# or with engines/service/compose.yaml, which also says how to run it with few rights.
ARG BASE=python:3.12-slim
FROM ${BASE} AS built
WORKDIR /edgecar
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY edgecar edgecar
COPY export export
COPY engines engines
COPY benchmarks benchmarks
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir -c constraints.txt '.[serve]'

FROM ${BASE}
COPY --from=built /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
# Volumes take over whose these are.
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/edgecar /recordings
USER 10001:10001
EXPOSE 8321
ENTRYPOINT ["edgecar"]
CMD ["serve", "/etc/edgecar/cameras.toml", "--host", "0.0.0.0"]
