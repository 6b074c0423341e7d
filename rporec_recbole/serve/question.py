"""What may be asked and what is answered: the bodies of requests and responses, as OpenAPI describes them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rporec_recbole.data.histories import times_fault
from rporec_recbole.serve.limits import Limits
from rporec_recbole.serve.problem import Problem, shown

Token = Annotated[str, Field(min_length=1)] | Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""An id as the data files have it; ids that are whole numbers may stand as numbers."""

Time = Annotated[float, Field(allow_inf_nan=False)]

Status = Literal["used", "malformed", "queued", "not queued", "off"]
"""used: the scores used the text; malformed: there is one, but it cannot be parsed, so the trunk answered; queued: none yet,
the trunk answered and a worker will write one; not queued: the same, but too many wait already; off: the run uses none."""

EXAMPLES = {
    "history": {"summary": "A history, oldest item first", "value": {"history": ["50", "181", "174"], "top_k": 5}},
    "user": {"summary": "A user of the run", "value": {"user": "196", "top_k": 10, "hide_seen": True}},
}


class Question(BaseModel):
    """Whose next item is asked for: `history` or `user`, one of the two."""

    model_config = ConfigDict(extra="forbid", strict=True)

    history: list[Token] | None = Field(None, description="item ids, oldest first; at least one", min_length=1)
    times: list[Time] | None = Field(
        None,
        description="when each item of `history` was chosen, counted as in the data files; without them, and by a run that reads no times, the order alone is read",
    )
    user: Token | None = Field(None, description="a user of the run, who has the history of the run's test split")
    top_k: int = Field(10, ge=1, description="how many items")
    hide_seen: bool | None = Field(None, description="leave out what was chosen before; default as in the run")


class Scored(BaseModel):
    """One item of an answer."""

    item: str
    title: str
    score: float


class Answer(BaseModel):
    """The best items, best first."""

    items: list[Scored]
    reasoning_used: bool = Field(description="whether the scores used what the backbone wrote about this history")
    reasoning: Status
    gate: float | None = Field(description="how much the head let the reasoning count, in (0, 1)")
    model_version: str


class Named(BaseModel):
    """An item without a score."""

    item: str
    title: str


class Described(Named):
    """An item as somebody looks for it."""

    details: str = Field(description="its attributes; may be empty")


class Found(BaseModel):
    """The items that a search found."""

    items: list[Described]


class Step(Named):
    """One item of the history."""

    in_prompt: bool = Field(description="whether the backbone is shown it")


class Thought(BaseModel):
    """What the backbone wrote, and what the head made of it."""

    text: str
    well_formed: bool
    cot: str
    answer: str
    guess: Named | None = Field(description="the item that the answer names word for word")
    gate: float | None = Field(description="how much the head let it count, in (0, 1); null if malformed")
    moved: float = Field(description="|u - s| / |s|: how far it moved the user's vector beside its length")


class Explained(BaseModel):
    """Both answers to one question, and what stands between them."""

    history: list[Step]
    reasoning: Status
    thought: Thought | None
    with_reasoning: list[Scored] | None = Field(description="null while there is no text")
    without_reasoning: list[Scored]
    model_version: str


class Failure(BaseModel):
    """Code and message of a `Refusal`."""

    code: str
    message: str


class Refusal(BaseModel):
    """Every response that is no answer."""

    error: Failure


def read_question(body: bytes, limits: Limits) -> Question:
    """The question in a body.

    Raises:
        Problem: 422, it is none, or one above the limits.
    """
    try:
        asked = Question.model_validate_json(body)
    except ValidationError as error:
        raise Problem(422, "malformed", _faults(error)) from None
    if (asked.history is None) == (asked.user is None):
        given = "neither" if asked.user is None else "both"
        raise Problem(422, "malformed", f"`history` and `user`: {given} given. Give one of the two.")
    if asked.history is not None and len(asked.history) > limits.history:
        raise Problem(
            422,
            "history_too_long",
            f"`history` has {len(asked.history):,} items; at most {limits.history:,} are allowed. Send the newest ones.",
        )
    if asked.times is not None:
        fault: str | None = "are those of `history`, and a user of the run has its own"
        if asked.history is not None:
            fault = times_fault(asked.times, len(asked.history))
        if fault is not None:
            raise Problem(422, "malformed", f"`times` {fault}.")
    if asked.top_k > limits.top_k:
        raise Problem(
            422, "top_k_too_large", f"`top_k` is {shown(asked.top_k)}. Ask for at most {limits.top_k:,} items."
        )
    return asked


def question_schema(limits: Limits) -> dict[str, Any]:
    """JSON schema of a question, limits included, for the description of the service."""
    schema = Question.model_json_schema()
    schema["properties"]["top_k"]["maximum"] = limits.top_k
    schema["properties"]["history"]["anyOf"][0]["maxItems"] = limits.history
    return schema


def _faults(error: ValidationError) -> str:
    """The first faults in words."""
    parts = []
    for fault in error.errors(include_url=False, include_context=False)[:3]:
        place = ".".join(str(step) for step in fault["loc"] if not _is_branch(step))
        if not place:
            parts.append(f"the body {shown(_text(fault['input']))} is no question: {fault['msg']}")
        elif fault["type"] == "extra_forbidden":
            parts.append(f"`{shown(place)}` is no part of a question")
        else:
            parts.append(f"`{place}` is {shown(fault['input'])}: {fault['msg']}")
    form = '{"history": ["ITEM", ...]} or {"user": "USER"}, with `top_k` and `hide_seen` if you like'
    return f"{'; '.join(parts)}. Send JSON such as {form}."


def _is_branch(step: Any) -> bool:
    """Whether a step of a place only says which member of a union was tried."""
    return isinstance(step, str) and (step in ("str", "int") or step.startswith("constrained"))


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
