"""`rporec serve` in this process: answers, refusals, reasoning that comes later, newer runs."""

import asyncio
import json
import os
import shutil
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from starlette.testclient import TestClient

from rporec_recbole.cli import main
from rporec_recbole.cot.store import CoTStore
from rporec_recbole.errors import ConfigError
from rporec_recbole.runs.run import run
from rporec_recbole.serve.app import Service
from rporec_recbole.serve.limits import Limits
from rporec_recbole.serve.pending import PENDING, Pending, count_pending
from rporec_recbole.serve.question import Question
from rporec_recbole.serve.recommender import Recommender
from rporec_recbole.serve.reload import Reloader, Watch
from rporec_recbole.serve.run_index import build_index, load_index
from tests.integration.reasoned import with_texts
from tests.serving import TEXT as WRITTEN
from tests.serving import Askers, work_until_done, write_well
from tests.toy import SHORT, TEXT


@pytest.fixture(scope="module")
def runs(toy, tmp_path_factory):
    """Name -> folder of a finished run on the toy data set."""
    folder, short = tmp_path_factory.mktemp("runs"), {**SHORT, **TEXT, "data_path": str(toy)}
    made = {}
    for name, settings in (
        ("trained", {"stages": ["1a", "1b", "1c"]}),
        ("several", {"stages": ["1a", "1b", "1c"], "cot_samples": 2, "fusion_strengths": [1]}),
        ("text", {"stages": ["1a", "1b", "1c"], "rechead": "text", "fusion_strengths": [1]}),
        ("reader", {"stages": ["1a", "1b", "1c"], "fusion_reads_history": True}),
        ("trunk", {"stages": ["1a"], "hide_seen": True}),
        ("ids", {"stages": ["1a"], "ids_only": True, "hide_seen": False}),
    ):
        made[name] = run("RPORec", "toy", overrides={**short, **settings, "run_dir": str(folder / name)}).run_dir
    made["reasoned"] = with_texts(made["trained"], folder / "reasoned")
    made["history"] = with_texts(made["reader"], folder / "history")
    plain = {"epochs": 1, "show_progress": False, "data_path": str(toy), "run_dir": str(folder / "SASRec")}
    made["SASRec"] = run("SASRec", "toy", overrides=plain).run_dir
    return made


@pytest.fixture
def copy(runs, tmp_path):
    """A copy of a run that a test may change."""
    return lambda name, to="copy": shutil.copytree(runs[name], tmp_path / to)


def client_of(path, token=None, **limits):
    service = Service(Recommender(path, Limits(**limits)), Limits(**limits), token)
    return service, TestClient(service.app)


def ranks_of(folder):
    return pd.read_parquet(folder / "ranks.parquet").query("split == 'test'")


@pytest.mark.parametrize("name", ["reasoned", "history", "several", "text", "trunk", "ids"])
def test_targets_stand_where_the_evaluation_has_them(runs, name):
    _, client = client_of(runs[name])
    with client, ThreadPoolExecutor(8) as pool:
        rows = list(ranks_of(runs[name])[["user_id", "item_id", "rank"]].itertuples(index=False))
        answers = pool.map(lambda row: client.post("/recommend", json={"user": row.user_id, "top_k": 25}).json(), rows)
        for row, answer in zip(rows, answers, strict=True):
            items = [one["item"] for one in answer["items"]]
            assert items.index(row.item_id) + 1 == row.rank
            assert [one["score"] for one in answer["items"]] == sorted(
                (one["score"] for one in answer["items"]), reverse=True
            )
            assert answer["reasoning"] in (("off",) if name in ("trunk", "ids") else ("used", "malformed"))
            assert answer["reasoning_used"] == (answer["reasoning"] == "used") == (answer["gate"] is not None)


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_an_index_changes_no_answer(runs, tmp_path, kind):
    folder = runs["reasoned"]
    build_index(folder, kind, output=tmp_path / "index")
    plain, indexed = (
        Recommender(folder, Limits()),
        Recommender(folder, Limits(), load_index(folder, tmp_path / "index")),
    )
    users = [Question(history=None, user=user, top_k=10, hide_seen=None) for user in ranks_of(folder)["user_id"]]
    answers = []
    for recommender in (plain, indexed):
        recommender.open()
        answers.append(recommender.answer(users))
        recommender.close()
    for one, other in zip(*answers, strict=True):
        assert one.ids == other.ids
        assert one.scores == pytest.approx(other.scores, abs=1e-5)
        assert one.status == other.status


def test_reasoning_of_strength_0_is_neither_read_nor_written(runs, copy):
    folder = copy("reasoned")
    weights = load_file(folder / "head.safetensors")
    nothing = {"head.strength": torch.tensor(0.0), "head.expert.strength": torch.tensor(0.0)}
    save_file({**weights, **nothing}, folder / "head.safetensors")
    _, client = client_of(folder)
    with client:
        answer = client.post("/recommend", json={"user": ranks_of(folder)["user_id"].iloc[0], "top_k": 5}).json()
        assert answer["reasoning"] == "off"
        assert answer["gate"] is None
        assert client.get("/ready").json()["uses_reasoning"] is False
        assert client.post("/recommend", json={"history": [answer["items"][0]["item"]]}).json()["reasoning"] == "off"
    assert count_pending(folder) == 0


def test_the_past_is_hidden_if_asked_for(runs):
    _, client = client_of(runs["trunk"])
    with client:
        for question, hidden in (({}, True), ({"hide_seen": False}, False), ({"hide_seen": True}, True)):
            answer = client.post("/recommend", json={"history": ["i3", "i4"], "top_k": 25, **question}).json()
            assert ({"i3", "i4"} <= {one["item"] for one in answer["items"]}) == (not hidden)
            assert len(answer["items"]) == (23 if hidden else 25)
        everything = {"history": [f"i{number}" for number in range(25)]}
        assert client.post("/recommend", json=everything).json()["items"] == []


def test_a_new_history_is_answered_at_once_and_later_with_reasoning(copy, monkeypatch):
    folder = copy("reasoned")
    _, client = client_of(folder)
    question = {"history": ["i3", "i7", "i3"], "top_k": 25}
    with client:
        first = client.post("/recommend", json=question).json()
        assert (first["reasoning_used"], first["reasoning"], first["gate"]) == (False, "queued", None)
        before = client.post("/explain", json=question).json()
        assert (before["thought"], before["with_reasoning"]) == (None, None)
        assert before["without_reasoning"][0]["item"] == first["items"][0]["item"]
        assert count_pending(folder) == 1
        assert "rporec_pending_reasoning 1.0" in client.get("/metrics").text
        write_well(monkeypatch)
        assert work_until_done(folder) == 1
        second = client.post("/recommend", json=question).json()
        assert (second["reasoning_used"], second["reasoning"]) == (True, "used")
        assert 0 < second["gate"] < 1
        assert second["items"] != first["items"]
        after = client.post("/explain", json=question).json()
        assert after["thought"]["text"] == WRITTEN
        assert after["thought"]["guess"] == {"item": "i5", "title": "Film 5 of the Comedy"}
        assert after["thought"]["gate"] == pytest.approx(second["gate"])
        assert after["thought"]["moved"] > 0
        for answer, body in ((first, after["without_reasoning"]), (second, after["with_reasoning"])):
            assert [one["item"] for one in body] == [one["item"] for one in answer["items"]]
        assert [step["in_prompt"] for step in after["history"]] == [True, True, True]
        assert 'rporec_answers_total{reasoning="used"} 1.0' in client.get("/metrics").text


def test_a_full_queue_of_histories_refuses_nobody(copy):
    folder = copy("reasoned")
    _, client = client_of(folder, pending=1)
    with client:
        said = [client.post("/recommend", json={"history": [f"i{n}"]}).json()["reasoning"] for n in (3, 4, 3)]
    assert said == ["queued", "not queued", "queued"]


def test_several_texts_of_a_history_count_when_all_are_there(copy, monkeypatch):
    folder = copy("several")
    _, client = client_of(folder)
    write_well(monkeypatch)
    with client:
        assert client.post("/recommend", json={"history": ["i3"]}).json()["reasoning"] == "queued"
        work_until_done(folder)
        assert client.post("/recommend", json={"history": ["i3"]}).json()["reasoning"] == "used"


def test_a_history_that_the_backbone_fails_at_is_set_aside(copy, monkeypatch):
    from rporec_recbole.backbone.model import Backbone

    folder = copy("reasoned")
    queue = Pending(folder / PENDING, 9)
    queue.add({"a": "bad\n", "b": "good\n"})
    write_well(monkeypatch)
    generate = Backbone.generate

    def failing(self, prompts, *rest):
        if "bad\n" in prompts:
            raise ValueError("no words")
        return generate(self, prompts, *rest)

    monkeypatch.setattr(Backbone, "generate", failing)
    assert work_until_done(folder) == 1
    assert len(queue) == 0
    assert queue.add({"a": "bad\n"}) == set()
    queue.close()


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "status", "message"),
    [
        ({"history": ["i3", "nope", "\u202e<b>"]}, 422, "knows no item `nope`, `\u202e<b>`. Name items as item_id"),
        ({"history": [f"x{n}" for n in range(9)]}, 422, "and 4 more"),
        ({"history": ["[PAD]"]}, 422, "knows no item `[PAD]`"),
        ({"history": []}, 422, "`history`"),
        ({"history": ["i3"] * 100_000}, 413, "larger than 65,536 bytes"),
        ({"history": ["i3"] * 1001}, 422, "has 1,001 items; at most 1,000"),
        ({"history": ["i3"], "top_k": 10**9}, 422, "at most 1,000"),
        ({"history": ["i3"], "top_k": -1}, 422, "`top_k` is -1"),
        ({"user": "nobody"}, 422, "The user `nobody` is not in the data"),
        ({"user": 7}, 422, "The user `7`"),
        ({"user": "[PAD]"}, 422, "The user `[PAD]`"),
        ("a text", 422, "is no question"),
    ],
)
def test_what_cannot_be_answered(shared, question, status, message):
    for path in ("/recommend", "/explain"):
        response = shared.post(path, json=question)
        assert response.status_code == status
        assert list(response.json()) == ["error"]
        assert message in response.json()["error"]["message"]


@pytest.fixture(scope="module")
def shared(runs):
    _, client = client_of(runs["trunk"])
    with client:
        yield client


def test_bodies_are_counted_as_they_come(shared):
    response = shared.post("/recommend", content=(b" " * 10_000 for _ in range(20)))  # no length is announced
    assert (response.status_code, response.headers["connection"]) == (413, "close")
    assert "newest items" in response.json()["error"]["message"]


def test_other_paths_and_methods(shared):
    assert shared.get("/nowhere").json()["error"]["code"] == "not_found"
    response = shared.get("/recommend")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert "POST /recommend" in response.json()["error"]["message"]
    assert shared.get("/health").json() == {"status": "ok"}
    assert shared.get("/ready").json()["model_version"].startswith("trunk@")
    figures = shared.get("/metrics").text
    assert 'rporec_requests_total{route="other",status="404"} 1.0' in figures


def test_the_description_has_examples_and_limits(shared):
    content = shared.get("/openapi.json").json()["paths"]["/recommend"]["post"]["requestBody"]["content"][
        "application/json"
    ]
    assert set(content["examples"]) == {"history", "user"}
    assert content["schema"]["properties"]["top_k"]["maximum"] == 1000


def test_a_token_is_asked_for(runs):
    _, client = client_of(runs["trunk"], token="secret")
    question = {"history": ["i3"]}
    with client:
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "secret"},
            {"Authorization": "Bearer "},
        ):
            response = client.post("/recommend", json=question, headers=headers)
            assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
            assert "Authorization: Bearer TOKEN" in response.json()["error"]["message"]
        good = {"Authorization": "Bearer secret"}
        assert client.post("/recommend", json=question, headers=good).status_code == 200
        status = {path: client.get(path).status_code for path in ("/health", "/ready", "/metrics", "/openapi.json")}
        assert status == {"/health": 200, "/ready": 200, "/metrics": 401, "/openapi.json": 200}
        description = client.get("/openapi.json").json()
        assert description["components"]["securitySchemes"]["token"]["scheme"] == "bearer"


def test_more_than_may_wait_are_refused_at_once(runs, monkeypatch):
    _, client = client_of(runs["trunk"], queue=4, batch=2)
    go, answer = threading.Event(), Recommender.answer
    monkeypatch.setattr(Recommender, "answer", lambda self, questions: (go.wait(30), answer(self, questions))[1])
    with client, ThreadPoolExecutor(40) as pool:
        asked = [pool.submit(client.post, "/recommend", json={"history": ["i3"]}) for _ in range(30)]
        deadline = time.monotonic() + 20
        while sum(one.done() for one in asked) < 24 and time.monotonic() < deadline:
            time.sleep(0.01)
        refused = [one.result() for one in asked if one.done()]
        assert len(refused) >= 24  # at most two are with the model and four wait
        assert {(one.status_code, one.headers["retry-after"]) for one in refused} == {(429, "1")}
        assert client.get("/health").status_code == 200
        go.set()
        codes = [one.result().status_code for one in asked]
        assert set(codes) == {200, 429}
        assert 4 <= codes.count(200) <= 6  # which of the two depends on how soon the model took its batch
        assert client.post("/recommend", json={"history": ["i3"]}).status_code == 200


def test_a_bug_is_one_500_and_the_service_goes_on(runs, monkeypatch, caplog):
    _, client = client_of(runs["trunk"])
    with client:
        with monkeypatch.context() as patch:
            patch.setattr(Recommender, "answer", lambda self, questions: 1 / 0)
            response = client.post("/recommend", json={"history": ["i3"]})
            assert (response.status_code, response.json()["error"]["code"]) == (500, "internal")
        assert client.post("/recommend", json={"history": ["i3"]}).status_code == 200
    assert "ZeroDivisionError" in caplog.text


# --- newer runs -------------------------------------------------------------------------------------------------------


def newer(folder, ahead):
    """Makes a run look `ahead` seconds younger than now."""
    for name in ("rporec.json", "head.safetensors", "metrics.json"):
        os.utime(folder / name, (time.time() + ahead,) * 2)


def reloader_of(service, current, parent):
    return Reloader(
        Watch(current, parent), lambda folder: Recommender(folder, Limits()), service.change, service.measures.reload
    )


def test_a_newer_run_answers_and_no_request_fails(copy, tmp_path):
    old = copy("trunk", "old")
    service, client = client_of(old)
    reloader = reloader_of(service, old, tmp_path)
    with client:
        assert not reloader.step()
        before = weakref.ref(service.engine.recommender)
        askers = Askers(lambda question: client.post("/recommend", json=question), 4)
        time.sleep(0.3)
        newer(copy("reasoned", "new"), 10)
        copy("SASRec", "other model")
        assert reloader.step()
        time.sleep(0.3)
        found = askers.end()
        assert {response.status_code for response in found} == {200}
        assert before() is None  # its memory is free
        names = [response.json()["model_version"].split("@")[0] for response in found]
        assert set(names) == {"old", "new"}
        assert client.get("/ready").json()["uses_reasoning"] is True
        text = client.get("/metrics").text
        assert 'rporec_reloads_total{outcome="loaded"} 1.0' in text
        assert 'rporec_model{version="new@' in text
        assert 'rporec_model{version="old@' not in text
        assert not reloader.step()


def test_a_broken_run_is_refused_and_the_old_one_stays(copy, tmp_path, caplog):
    from safetensors.torch import load_file, save_file

    old = copy("trunk", "old")
    service, client = client_of(old)
    reloader = reloader_of(service, old, tmp_path)
    broken = copy("trunk", "broken")
    (broken / "head.safetensors").write_bytes((broken / "head.safetensors").read_bytes()[:100])
    with client:
        newer(broken, 20)
        assert not reloader.step()
        assert "is refused, the old one goes on" in caplog.text
        weights = load_file(old / "head.safetensors")
        for name in weights:
            if weights[name].is_floating_point():
                weights[name] = weights[name] * float("nan")
        save_file(weights, broken / "head.safetensors")
        newer(broken, 30)
        assert not reloader.step()
        assert "no finite numbers" in caplog.text
        assert not reloader.step()  # once is enough
        assert 'outcome="refused"} 2.0' in client.get("/metrics").text
        assert client.post("/recommend", json={"history": ["i3"]}).json()["model_version"].startswith("old@")
        shutil.rmtree(broken)
        shutil.copytree(old, broken)
        newer(broken, 40)
        assert reloader.step()


def test_a_run_that_is_replaced_is_loaded_again(copy, tmp_path):
    old = copy("trunk", "old")
    service, client = client_of(old)
    reloader = reloader_of(service, old, tmp_path)
    with client:
        before = client.get("/ready").json()["model_version"]
        shutil.rmtree(old)
        assert not reloader.step()
        assert client.post("/recommend", json={"history": ["i3"]}).status_code == 200
        copy("reasoned", "old")
        assert reloader.step()
        assert client.get("/ready").json()["model_version"] != before


# --- the command ------------------------------------------------------------------------------------------------------


def test_other_models_are_refused(runs):
    with pytest.raises(ConfigError, match="a service can be had of RPORec"):
        Recommender(runs["SASRec"], Limits())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "rporec serve RUN"),
        (["nowhere", "--port=0"], "holds no run"),
        (["RUN", "--port=70000"], "is no port"),
        (["RUN", "--port=many"], "whole number"),
        (["RUN", "--port=0", "--host=203.0.113.9"], "cannot listen on 203.0.113.9:0"),
        (["RUN", "--token=two words"], "ASCII without spaces"),
        (["RUN", "--queue_limit=0"], "must be a whole number of at least 1"),
        (["RUN", "--worker=perhaps"], "True or False"),
        (["RUN", "--watch=nowhere"], "no such folder"),
        (["RUN", "--worker_only=True"], "use no reasoning"),
        (["RUN", "--worker_only=True", "--port=1"], "means nothing beside"),
        (["RUN", "--top_k=5"], "Did you mean `top_k_limit`"),
    ],
)
def test_mistakes(runs, capsys, arguments, message):
    assert main(["serve", *(str(runs["trunk"]) if one == "RUN" else one for one in arguments)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_missing_extra_is_named(runs, capsys, monkeypatch):
    import sys

    for name in [name for name in sys.modules if name.startswith("rporec_recbole.serve")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve", str(runs["trunk"])]) == 2
    assert 'pip install "rporec_recbole[serve]"' in capsys.readouterr().err


def test_any_request_is_answered_without_a_5xx(runs):
    """What the description allows, and what it does not, in 2,000 requests."""
    schemathesis = pytest.importorskip("schemathesis", reason="pip install schemathesis: fuzzing the description")
    from hypothesis import HealthCheck, Phase, given, settings

    _, client = client_of(runs["trunk"])
    statuses = []
    with client:
        schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
        for wrapped in schema.get_all_operations():
            operation = wrapped.ok()
            asks = operation.method == "post"
            # Of a route that takes nothing there is nothing to get wrong.
            for mode in schemathesis.GenerationMode if asks else [schemathesis.GenerationMode.POSITIVE]:

                @settings(
                    max_examples=150 if asks else 5,
                    deadline=None,
                    database=None,
                    derandomize=True,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                @given(case=operation.as_strategy(generation_mode=mode))
                def fuzz(case):
                    arguments = case.as_transport_kwargs(base_url="http://testserver")
                    statuses.append(client.request(**arguments).status_code)

                fuzz()
    assert len(statuses) >= 600
    assert max(statuses) < 500
    assert {200, 422} <= set(statuses)


def test_the_store_is_closed_by_the_thread_that_opened_it(copy):
    folder = copy("reasoned")
    _, client = client_of(folder)
    with client:
        asyncio.run(asyncio.sleep(0))
        assert client.post("/recommend", json={"history": ["i3"]}).json()["reasoning"] == "queued"
    assert not (folder / "reasoning.sqlite-wal").exists()
    store = CoTStore(folder / "reasoning.sqlite")
    assert len(store) > 0
    store.close()
    assert json.loads((folder / "rporec.json").read_text())["reasoning_on"] is True
