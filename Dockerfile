# whmcs-mock beside other containers; docs/server.md shows it in compose and CI.

FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY fixtures/documented.yaml fixtures/
COPY whmcs_mock whmcs_mock
RUN python -m venv /opt/whmcs-mock && /opt/whmcs-mock/bin/pip install --no-cache-dir .

FROM python:3.13-slim
COPY --from=build /opt/whmcs-mock /opt/whmcs-mock
# The example of WHMCS's documentation, until a folder of your own is mounted here.
COPY fixtures/documented.yaml /fixtures/
ENV PATH=/opt/whmcs-mock/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    WHMCS_MOCK_FIXTURES=/fixtures \
    WHMCS_MOCK_HOST=0.0.0.0
USER 1000:1000
EXPOSE 8421
HEALTHCHECK --interval=2s --timeout=5s --start-period=10s CMD ["whmcs-mock", "health"]
ENTRYPOINT ["whmcs-mock"]
CMD ["serve"]
