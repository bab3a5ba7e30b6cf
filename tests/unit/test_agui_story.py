"""Journal events and chunks as AG-UI events: what is told, once, in which order, with which ids."""

import pytest
from ag_ui.core import RunAgentInput

from agnt5.contracts.errors import error_data
from agnt5.integrations.agui_input import input_for
from agnt5.integrations.agui_story import Story
from agnt5.replay import events as ev

ENDS = {"TEXT_MESSAGE_START": "TEXT_MESSAGE_END", "STEP_STARTED": "STEP_FINISHED", "TOOL_CALL_START": "TOOL_CALL_END"}


class Told:
    """A story, with what it told as JSON; places count up."""

    def __init__(self):
        self.story = Story("r-1", thread_id="t", agui_run_id="a")
        self.told = []
        self.at = 0

    def __call__(self, *given):
        self.at += 1
        for one in given:
            tell = self.story.journal if isinstance(one, ev.Event) else self.story.chunk
            self.keep(tell(one, f"1-{self.at}"))
        return self

    def keep(self, events):
        self.told += [event.model_dump(mode="json", by_alias=True) for event in events]
        return self

    def ended(self, end):
        self(end).keep(self.story.ended())
        return [short(one) for one in self.told]


def short(event):
    kind = event["type"]
    match kind:
        case "TEXT_MESSAGE_START" | "TEXT_MESSAGE_END":
            return f"{kind} {event['messageId']}"
        case "TEXT_MESSAGE_CONTENT":
            return event["delta"]
        case "TOOL_CALL_START":
            return f"call {event['toolCallId']} {event['toolCallName']}"
        case "TOOL_CALL_ARGS" | "TOOL_CALL_END":
            return f"{kind} {event.get('delta', '')}".strip()
        case "TOOL_CALL_RESULT":
            return f"result {event['toolCallId']} {event['content']}"
        case "CUSTOM":
            return f"{event['name']} {event['value']}"
        case "STEP_STARTED" | "STEP_FINISHED":
            return f"{kind} {event['stepName']}"
    return kind


DONE = ev.RunCompleted(result=[1])


def test_text_is_one_message_until_something_else_comes():
    told = Told()("a")({"type": "text", "text": "b"})({"text": "c", "response": None})("")({"any": 1})("d")
    assert told.ended(DONE) == [
        "TEXT_MESSAGE_START r-1/1-1", "a", "b", "c", "TEXT_MESSAGE_END r-1/1-1",
        "chunk {'any': 1}",
        "TEXT_MESSAGE_START r-1/1-6", "d", "TEXT_MESSAGE_END r-1/1-6",
        "RUN_FINISHED",
    ]  # fmt: skip


def test_a_call_is_told_once_whoever_tells_it_first():
    answer = ev.StepCompleted(
        seq=1, name="llm:m", result={"text": "", "tool_calls": [{"id": "c", "name": "look", "arguments": {"a": 1}}]}
    )
    step = ev.StepCompleted(seq=2, name="tool:look", key="c", result={"n": 7})
    call = {"type": "tool_call", "id": "c", "name": "look", "arguments": {"a": 1}}
    result = {"type": "tool_result", "id": "c", "name": "look", "result": {"n": 7}}
    once = ["call c look", 'TOOL_CALL_ARGS {"a": 1}', "TOOL_CALL_END", 'result c {"n": 7}']
    for order in ([answer, step, call, result], [call, result, answer, step], [call, answer, step, result]):
        told = [one for one in Told()(*order).ended(DONE) if not one.startswith("STEP")]
        assert told == [*once, "RUN_FINISHED"]


def test_calls_of_a_workflow_without_keys_are_found_by_name_and_order():
    calls = [{"id": f"c{n}", "name": "look", "arguments": {}} for n in (1, 2)]
    told = Told()(ev.StepCompleted(seq=1, name="llm:m", result={"tool_calls": calls}))
    told(ev.StepCompleted(seq=2, name="tool:look", result="x"), ev.StepCompleted(seq=3, name="tool:look", result="y"))
    assert [one for one in told.ended(DONE) if one.startswith("result")] == ["result c1 x", "result c2 y"]


def test_calls_of_pydantic_ai_are_understood():
    part = {"part_kind": "tool-call", "tool_name": "look", "args": '{"a":1}', "tool_call_id": "c"}
    told = Told()(ev.StepCompleted(seq=1, name="llm:m", result={"parts": [{"part_kind": "text"}, part]}))
    told(ev.StepCompleted(seq=2, name="tool:look", key="clerk-1/c", result={"kind": "tool_return", "result": 7}))
    assert told.ended(DONE)[2:-1] == ["call c look", 'TOOL_CALL_ARGS {"a":1}', "TOOL_CALL_END", "result c 7"]


def test_a_failed_tool_tells_its_error_and_a_later_success_replaces_it():
    failed = ev.StepFailed(seq=1, name="tool:look", key="c", error=error_data(ValueError("no")))
    told = Told()(failed)(ev.AttemptFailed(attempt=0, error=error_data(ValueError("no"))))
    told(ev.StepCompleted(seq=1, name="tool:look", key="c", result="yes"))
    assert told.ended(DONE) == [
        "call c look", "TOOL_CALL_END", "result c ValueError: no",
        "retry {'attempt': 0, 'error': {'type': 'ValueError', 'message': 'no'}, 'retry_at_ms': 0}",
        "result c yes", "RUN_FINISHED",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("recorded", "content"),
    [
        ({"result": 7}, "7"),
        ({"result": "ab", "cut_from": 9}, "ab"),
        ({"error": "ValueError: no"}, "ValueError: no"),
        ({"result": 7, "more": 1}, '{"result": 7, "more": 1}'),
        ([1], "[1]"),
    ],
)
def test_a_result_is_told_without_what_is_recorded_around_it(recorded, content):
    told = Told()(ev.StepCompleted(seq=1, name="tool:look", key="c", result=recorded)).ended(DONE)
    assert told[2] == f"result c {content}"


def test_steps_and_children_begin_and_end():
    told = Told()(ev.StepCompleted(seq=1, name="load", result=1), ev.TaskScheduled(seq=2, handler="a.b", id="r-1~2"))
    told(ev.TaskFailed(seq=2, error={}), ev.TaskCompleted(seq=9))
    steps = ["STEP_STARTED load", "STEP_FINISHED load", "STEP_STARTED a.b", "STEP_FINISHED a.b"]
    assert told.ended(DONE) == [*steps, "RUN_FINISHED"]


def test_after_a_reset_messages_are_new_and_known_calls_are_not_told_again():
    call = {"type": "tool_call", "id": "c", "name": "look", "arguments": {}}
    told = Told()("a")(call)
    told.keep(told.story.reset(2))
    assert told("b")(call).ended(DONE) == [
        "TEXT_MESSAGE_START r-1/1-1", "a", "TEXT_MESSAGE_END r-1/1-1", "call c look", "TOOL_CALL_ARGS {}",
        "TOOL_CALL_END", "reset {'claim': 2}", "TEXT_MESSAGE_START r-1/1-3", "b", "TEXT_MESSAGE_END r-1/1-3",
        "RUN_FINISHED",
    ]  # fmt: skip


@pytest.mark.parametrize("result", ["hi", {"text": "hi", "usage": {}}])
def test_a_result_that_was_not_spoken_is_told_as_a_message(result):
    text = ["TEXT_MESSAGE_START r-1/result", "hi", "TEXT_MESSAGE_END r-1/result", "RUN_FINISHED"]
    assert Told().ended(ev.RunCompleted(result=result)) == text
    assert Told()("spoken").ended(ev.RunCompleted(result=result))[-1] == "RUN_FINISHED"
    assert "hi" not in Told()("spoken").ended(ev.RunCompleted(result=result))


def test_ends_have_their_results_and_errors():
    told = Told()({"type": "handoff", "agent": "bob"})({"type": "done", "result": {"ok": True}})
    told.ended(ev.RunCompleted(result=["all", "chunks"]))
    assert told.told[0]["value"] == {"agent": "bob"}
    assert told.told[-1] == {"type": "RUN_FINISHED", "threadId": "t", "runId": "a", "result": {"ok": True}}
    failed = Told()
    failed.ended(ev.RunFailed(error=error_data(ValueError("no"))))
    assert failed.told == [{"type": "RUN_ERROR", "message": "no", "code": "ValueError"}]
    cancelled = Told()
    cancelled.ended(ev.RunCancelled())
    assert cancelled.told[0]["outcome"] == {"type": "cancelled"}


def test_what_people_are_asked_is_told():
    told = Told()(ev.ApprovalRequested(seq=1, name="pay", payload=5, required_roles=["ops"]))
    told(ev.ApprovalDecided(seq=1, decision="approved", approver="ann"))
    asked, decided = told.told
    assert (asked["name"], asked["value"]["name"], asked["value"]["required_roles"]) == ("approval", "pay", ["ops"])
    assert decided["value"] == {"run": "r-1", "seq": 1, "decision": "approved", "approver": "ann"}


def asked(**more):
    said = {"role": "user", "id": "1", "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": "you"}]}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    answer = {"role": "assistant", "id": "2", "toolCalls": [call]}
    return RunAgentInput.model_validate({"threadId": "t", "runId": "r", "messages": [said, answer], **more})


def takes(*names, schema=None):
    return [{"name": name, "schema": schema or {}} for name in names]


def test_a_handler_gets_what_its_parameters_name():
    assert input_for(asked(), []) is None
    assert input_for(asked(), takes("message", "conversation", "other")) == {"message": "hi\nyou", "conversation": "t"}
    assert input_for(asked(), takes("question", schema={"type": "string"})) == {"question": "hi\nyou"}
    given = input_for(asked(state={"n": 1}), takes("messages", "state", "tools"))
    assert given["messages"][1]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert (given["state"], given["tools"]) == ({"n": 1}, [])
    whole = input_for(asked(forwardedProps={"p": 1}), takes("request"))["request"]
    assert (whole["thread_id"], whole["run_id"], whole["forwarded_props"]) == ("t", "r", {"p": 1})


def test_a_handler_that_learns_of_the_conversation_in_no_other_way_gets_it_as_its_message():
    either = {"anyOf": [{"type": "string"}, {"type": "array"}]}
    assert [one["role"] for one in input_for(asked(), takes("message", schema=either))["message"]] == [
        "user",
        "assistant",
    ]
    assert input_for(asked(), takes("message", "thread_id", schema=either))["message"] == "hi\nyou"


def test_messages_are_told_as_models_take_them():
    image = {"type": "image", "source": {"type": "data", "value": "iVBO", "mimeType": "image/png"}}
    linked = {"type": "image", "source": {"type": "url", "value": "https://x/y.png"}}
    user = {"role": "user", "id": "1", "content": [{"type": "text", "text": "what is it?"}, image, linked]}
    thought = {"role": "reasoning", "id": "2", "content": "hm"}
    result = {"role": "tool", "id": "3", "toolCallId": "c", "content": "7"}
    request = RunAgentInput.model_validate({"threadId": "t", "runId": "r", "messages": [user, thought, result]})
    assert input_for(request, takes("messages"))["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "what is it?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}},
                {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c", "content": "7"},
    ]
