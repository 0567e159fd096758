#!/bin/sh
# Runs once before the proxy, from docker-compose.yml: a key in the KMS emulator, then the database.
set -eu
python - <<'PYTHON'
import boto3

kms = boto3.client("kms", endpoint_url="http://kms:5000")
if not any(alias["AliasName"] == "alias/pgseal" for alias in kms.list_aliases()["Aliases"]):
    key = kms.create_key(Description="pgseal")["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/pgseal", TargetKeyId=key)
PYTHON
exec pgseal init --config /etc/pgseal/pgseal.yaml
