"""A tick on a Ray cluster with the store on S3, and that no credential is left anywhere."""

import hashlib
import hmac
import json
import secrets
from pathlib import Path

import pytest
import yaml

from infra import store
from pipeline import champion
from pipeline.records import read_record
from pipeline.storage import Storage
from tests.cluster import TOKEN, Head, require_no_secret
from tests.receiver import receiver
from tests.tiny import PLAIN

HOOK_SECRET = secrets.token_hex(16)


@pytest.mark.cluster
def test_a_tick_on_ray_with_its_store_on_s3_leaves_no_credential_anywhere(
    head: Head, s3_server: store.Running, s3_storage: Storage, tmp_path: Path
):
    with receiver() as (url, heard):
        plain = {
            **PLAIN, "storage": s3_storage.url, "cluster": {"workers": 2},
            "train": {**PLAIN["train"], "total_epochs": 1, "checkpoint_every_steps": 99},
            "model": {**PLAIN["model"], "steps": 1},
            "retrain": {"cron": "0 3 * * 1", "zone": "UTC", "webhook": {"url": url}},
        }  # fmt: skip
        (tmp_path / "weekly.yaml").write_text(yaml.safe_dump(plain))
        words = ("retrain", str(tmp_path / "weekly.yaml"), "--json")
        done = head.drive(*words, DRAW_WEBHOOK_SECRET=HOOK_SECRET)
    assert done.returncode == 0, done.stderr[-3000:]
    decision = json.loads(done.stdout)
    assert (decision["kind"], decision["number"], decision["already"]) == ("promotion", 1, False)
    assert read_record(s3_storage, decision["challenger"]).workers == 2
    assert champion.latest(s3_storage, "tiny").after.champion.run == decision["challenger"]
    assert decision["challenger"] in s3_storage.read("champions/tiny/index.html").decode()
    ((headers, body),) = heard
    expected = hmac.new(HOOK_SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert headers["X-Draw-Signature"] == f"sha256={expected}"

    # As a scheduler does; the tick is decided, so a submission of any kind trains nothing.
    again = head.submit("--", "python", "-m", "pipeline", *words)
    assert again.returncode == 0, again.stdout[-3000:] + again.stderr[-2000:]
    assert '"already": true' in again.stdout
    assert champion.numbers(s3_storage, "tiny") == [1]

    said = {
        "output": "".join((done.stdout, done.stderr, again.stdout, again.stderr)).encode(),
        "webhook": body + json.dumps(headers).encode(),
        **{entry.key: s3_storage.read(entry.key) for entry in s3_storage.list()},
        **head.written(),
    }
    assert any("worker" in name and name.endswith(".out") for name in said)
    require_no_secret(said, s3_server.secret_key, HOOK_SECRET, TOKEN)
