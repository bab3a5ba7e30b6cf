"""Wrong versions of the scripts. Each lacks one safety; the tests must notice every one of them."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import NamedTuple

from agnt5.store import scripts, store

MACHINE = "tests/property/test_store_machine.py"
CREATE = "tests/store/test_create_claim.py"
APPEND = "tests/store/test_append.py"
ENDS = "tests/store/test_ends.py"
BACK = "tests/store/test_giving_back.py"
BEAT = "tests/store/test_beat_scripts.py"
LOST = "tests/store/test_lost_replies.py"
ASKS = "tests/store/test_asks.py"
OUTAGES = "tests/store/test_outages.py"
ENTITIES = "tests/property/test_entity_machine.py"
BUDGETS = "tests/store/test_budget_scripts.py"
SPENDING = "tests/property/test_budget_machine.py"
CALLS = "tests/store/test_entity_scripts.py"
STREAMS = "tests/store/test_streams.py"
LINES = "tests/store/test_kept_lines.py"
CONFIG = "tests/store/test_config_store.py"
BYTES = "tests/store/test_journal_bytes.py"


class Mutant(NamedTuple):
    """A defect: in every script that holds `right` (at least one), it becomes `wrong`. `caught_by`: who must notice."""

    caught_by: str
    right: str
    wrong: str = ""


MUTANTS: dict[str, Mutant] = {
    "no fence": Mutant(MACHINE, "if r.epoch ~= epoch then", "if false then"),
    "a write is applied twice": Mutant(MACHINE, "local last = tonumber(r.op or '0')", "local last = op - 1"),
    "a write is applied before its turn": Mutant(MACHINE, "if op ~= last + 1 then", "if false then"),
    "a write after giving back passes for an old one": Mutant(
        MACHINE, "r.fin == epoch and op <= tonumber(r.finop or '0')", "r.fin == epoch"
    ),
    "an ended run is cancelled": Mutant(
        ENDS, "if not r or ENDED[r.status] then return false end", "if not r then return false end"
    ),
    "an ended run is claimed": Mutant(
        CREATE, "if ENDED[r.status] then return { 'ENDED', r.status } end\nlocal epoch", "local epoch"
    ),
    "an ended run takes signals": Mutant(
        MACHINE, "if ENDED[r.status] then return { 'ENDED', r.status } end\nlocal length", "local length"
    ),
    "a signal is taken twice": Mutant(MACHINE, "redis.call('SADD', P .. 'ops:' .. id, ARGV[2])\n"),
    "a cancel is told twice": Mutant(MACHINE, "if redis.call('SADD', P .. 'ops:' .. ARGV[1], 'cancel:' .. ARGV[4]) == 0"
                                     " then return { 'OK', r.status, OUT } end\n"),
    "a queued run is in no queue": Mutant(MACHINE, "redis.call('ZADD', P .. 'queued:' .. slot, NOW_S, id)\n"),
    "a claimed run stays in its queue": Mutant(MACHINE, "  dequeue(id, r)\n  local slot", "  local slot"),
    "a claimed run is on nobody's list": Mutant(MACHINE, "redis.call('SADD', P .. 'owned:' .. host, id)\n"),
    "an ended run stays on a host's list": Mutant(
        MACHINE, "    redis.call('SREM', P .. 'owned:' .. r.host, id)\n  else\n    note_end", "  else\n    note_end"
    ),
    "an ended journal never expires": Mutant(MACHINE, "redis.call('PEXPIRE', P .. 'log:' .. id, retention)\n"),
    "an old journal never expires": Mutant(MACHINE, "redis.call('PEXPIRE', old, ARGV[5])\n"),
    "timers outlive their run": Mutant(MACHINE, "  unset_timers(id)\n  if r.asks", "  if r.asks"),
    "an old generation keeps its children": Mutant(
        MACHINE, "redis.call('DEL', P .. 'kids:' .. id)\nunset_timers(id)\n", "unset_timers(id)\n"
    ),
    "a timer fires in another generation": Mutant(BACK, "if gen == r.gen then tell", "if gen then tell"),
    "a timer fires early": Mutant(MACHINE, "'-inf', NOW_S, 'WITHSCORES'", "'-inf', '+inf', 'WITHSCORES'"),
    "a run is parked with unseen events": Mutant(MACHINE, "if mode == 'wait' and length > seen then", "if false then"),
    "a lost no becomes a yes": Mutant(BACK, "r.epoch == epoch and r.more == ARGV[3]", "false"),
    "an event wakes nobody": Mutant(MACHINE, "elseif r.status == 'waiting' and not r.retry then", "elseif false then"),
    "an event cuts the wait between attempts short": Mutant(
        MACHINE, "elseif r.status == 'waiting' and not r.retry then", "elseif r.status == 'waiting' then"
    ),
    "a dead host keeps its epoch": Mutant(
        MACHINE, "'host', '', 'epoch', '', 'fin', '', 'crashes'", "'host', '', 'fin', '', 'crashes'"
    ),
    "poison is never given up": Mutant(BEAT, "if crashes >= tonumber(ARGV[3]) then", "if false then"),
    "a suspect is blamed for its neighbour": Mutant(BEAT, "and (crashes < 2 or r.danger) then", "then"),
    "a second start overwrites the first": Mutant(MACHINE, "if old[1] then", "if false then"),
    "an epoch comes back": Mutant(CREATE, "ms((r.claims or 0) + 1)", "'1'"),
    "a child is told of twice": Mutant(MACHINE, "elseif c.told ~= '1' then", "else"),
    "a child is not taken up again": Mutant(
        APPEND, "elseif not ENDED[c.status] then\n    redis.call('HSET', P .. 'kids:' .. id, child, seq)\n",
        "elseif not ENDED[c.status] then\n",
    ),
    "the limit is not looked at": Mutant(APPEND, "(length + bodies > limit or bytes", "(false or bytes"),
    "a write behind a refused one is taken": Mutant(APPEND, "if full or bodies > 0", "if bodies > 0"),
    "roles are not looked at": Mutant(ASKS, "if roles ~= '' then", "if false then"),
    "a part of a role is a role": Mutant(
        ASKS, "string.find('\\n' .. list .. '\\n', '\\n' .. line .. '\\n', 1, true)", "string.find(list, line, 1, true)"
    ),
    "anybody is an assignee": Mutant(
        ASKS, "if people ~= '' and not holds(people, approver) then return 'ASSIGNEE' end\n"
    ),
    "who asks decides": Mutant(ASKS, "if barred == approver then return 'SELF' end\n"),
    "an ask is decided twice": Mutant(ASKS, "if status ~= 'open' then return 'CLOSED' end\n"),
    "a timeout comes after the decision": Mutant(
        ASKS, "if redis.call('HGET', key, 'status') ~= 'open' then return false end\n"
    ),
    "a due time that beat has not seen has not come": Mutant(ASKS, "tonumber(due) <= NOW then", "false then"),
    "one is a quorum": Mutant(ASKS, "or tonumber(yes) >= tonumber(quorum)", "or true"),
    "one person votes twice": Mutant(ASKS, "if holds(voters, approver) then return 'VOTED' end\n"),
    "an ask outlives its run": Mutant(ASKS, "if r.asks then end_asks(id, retention, '|end') end\n"),
    "an ask outlives its generation": Mutant(ASKS, "  end_asks(id, ARGV[5], '')\n"),
    "an ended ask never expires": Mutant(ASKS, "redis.call('PEXPIRE', P .. 'ask:' .. id .. '|' .. ref, retention)\n"),
    "what code took back is asked again": Mutant(
        ASKS, "and not (old[1] == 'withdrawn' and old[2] == '|end')", "and false"
    ),
    "a refusal wakes its run": Mutant(ASKS, "if (r.host or '') ~= '' then return tell", "if true then return tell"),
    "a refusal hides an event": Mutant(ASKS, "redis.call('HGET', P .. 'run:' .. id, 'seen') == ms(n - 1)", "true"),
    "refusals fill the journal": Mutant(ASKS, " < tonumber(ARGV[9]) / 2", " < 1e9"),
    "a lost decision came too late": Mutant(LOST, "if before then return answer(before) end"),
    "what nobody takes blocks the rest": Mutant(
        BEAT, "redis.call('ZADD', zset, ms(NOW + slack * math.pow(2, math.min(sends + 1, 10))), id)\n"
    ),
    "nothing ends when memory is short": Mutant(OUTAGES, "#!lua flags=allow-oom\n", "#!lua\n"),
    "two writes of an entity at once": Mutant(ENTITIES, "if holder and holder ~= '' then", "if false then"),
    "reads take the lock": Mutant(ENTITIES, "mode == 'write' and redis.call('HGET'", "redis.call('HGET'"),
    "a write without the lock": Mutant(
        CALLS, "if holder ~= id then return { 'STALE'", "if false then return { 'STALE'"
    ),
    "the last in line is first": Mutant(ENTITIES, "redis.call('LPOP', P .. 'line:' .. e)",
                                        "redis.call('RPOP', P .. 'line:' .. e)"),
    "a lock is handed to nobody": Mutant(ENTITIES, "RECENT - 1)\n  end\n  pass_on(e)\n", "RECENT - 1)\n  end\n"),
    "a cancelled call stays in line": Mutant(
        ENTITIES, "if place == 'line' then redis.call('LREM', P .. 'line:' .. e, 1, id) end\n"
    ),
    "a heir is not told again": Mutant(CALLS, "then HEIR = heir(id, r, r.epoch) end", "then HEIR = {} end"),
    "a heir is told to a stranger": Mutant(
        CALLS, "if TAKER ~= '' and r.host == TAKER and string.match(r.epoch, ':(.*)$') == NONCE then", "if true then"
    ),
    "a call goes to a host that did not offer itself": Mutant(CALLS, "ARGV[11] ~= '' and ARGV[10] or ''", "ARGV[10]"),
    "a call is made twice": Mutant(ENTITIES, "if old then\n  if digest", "if false then\n  if digest"),
    "a caller is never told": Mutant(ENTITIES, "if caller then redis.call('ZADD', P .. 'answers', NOW_S, id) end\n"),
    "an answer is told twice": Mutant(
        CALLS, "if redis.call('SADD', P .. 'ops:' .. id, ARGV[3]) == 0 then return { 'DUPLICATE' } end\n"
    ),
    "an answer comes to another generation": Mutant(CALLS, "if r.gen ~= ARGV[2] then", "if false then"),
    "a held entity is deleted": Mutant(ENTITIES, "if holder and holder ~= '' then return { 'BUSY', holder } end\n"),
    "an entity without state stays": Mutant(
        ENTITIES, "== 0 then redis.call('DEL', lock, P .. 'recent:' .. e) end", "== 0 then end"
    ),
    "a budget forgets what others reserved": Mutant(
        BUDGETS, "used + held + tonumber(asked[i])", "used + tonumber(asked[i])"
    ),
    "a budget forgets what was spent": Mutant(BUDGETS, "used + held + tonumber(asked[i])", "held + tonumber(asked[i])"),
    "a budget is exceeded by one": Mutant(BUDGETS, "> tonumber(limits[i])", "> tonumber(limits[i]) + 1"),
    "a repeated reservation counts twice": Mutant(
        SPENDING, "if redis.call('HEXISTS', P .. 'tries:' .. scope, nonce) == 1 then return { 'OK' } end\n"
    ),
    "a crashed try holds for ever": Mutant(SPENDING, "if before then let_go(scope, before) end\n"),
    "what is settled stays held": Mutant(
        SPENDING, "add(scope, 'held_', '-', amounts)\nadd(scope, ''", "add(scope, ''"
    ),
    "what was spent counts twice": Mutant(SPENDING, "forget_try(scope, nonce, op)\n"),
    "a worker that seemed dead spends nothing": Mutant(
        SPENDING, "redis.call('HSET', P .. 'tries:' .. scope, try, '0 0 0 ' .. op)",
        "redis.call('HDEL', P .. 'tries:' .. scope, try, 'o:' .. op)",
    ),
    "the dead hold for ever": Mutant(BUDGETS, "let_due_go(scope)\n"),
    "a window counts what came before it": Mutant(BUDGETS, "tonumber(before) < window", "false"),
    "a trees budget expires while its root is open": Mutant(
        BUDGETS, "if root and (not status or ENDED[status])", "if root"
    ),
    "a trees budget never expires": Mutant(
        BUDGETS, "if not (r.parent or r.caller) then end_budget(id, retention) end\n"
    ),
    "a childs end is its trees": Mutant(BUDGETS, "if not (r.parent or r.caller) then end_budget(id, retention) end",
                                        "end_budget(string.match(id, '^[^~]*'), retention)"),
    "the list of budgets outlives them": Mutant(BUDGETS, "redis.call('PEXPIREAT', P .. 'budgets', ms(last))"),
    "a reopened run forgets what it spent": Mutant(BUDGETS, "then keep_budget('tree:' .. id, '') end", "then end"),
    "emit without a fence": Mutant(
        STREAMS, "if r.epoch ~= epoch then return { 'STALE', r.status } end\nlocal claim", "local claim"
    ),
    "emit appends a repeated chunk": Mutant(
        STREAMS, "local wanted = first + tonumber(ARGV[5]) - 1\n",
        "first = last + 1\nlocal wanted = first + tonumber(ARGV[5]) - 1\n",
    ),
    "emit leaves a gap": Mutant(STREAMS, "if first > last + 1 then return { 'GAP', ms(last) } end\n"),
    "a chunk does not tell what was before it": Mutant(STREAMS, "ms(redis.call('LLEN', P .. 'log:' .. id))\n", "'0'\n"),
    "a stream has no limit": Mutant(STREAMS, "math.min(wanted, limit)", "wanted"),
    "old chunks stay after a new attempt": Mutant(STREAMS, "if r.out then void_stream(id, count) end\n"),
    "readers are not told that chunks became void": Mutant(
        STREAMS, "redis.call('PUBLISH', 'agnt5:out:' .. id, count .. '-0')\n"
    ),
    "the stream outlives its run": Mutant(STREAMS, "redis.call('PEXPIRE', P .. 'out:' .. id, retention)\n"),
    "kept lines outlive their run": Mutant(LINES, "redis.call('PEXPIRE', P .. 'logs:' .. id, retention)\n"),
    "a line after the end is kept for good": Mutant(
        LINES, "if left >= 0 then redis.call('PEXPIRE', key, math.max(left, 1)) end\n"
    ),
    "lines of no run are kept": Mutant(LINES, "if left == -2 then return { 'GONE' } end\n"),
    "lines have no limit": Mutant(LINES, "redis.call('ZREMRANGEBYRANK', key, 0, -1 - tonumber(ARGV[2]))\n"),
    "the oldest lines stay": Mutant(
        LINES, "key, 0, -1 - tonumber(ARGV[2]))", "key, tonumber(ARGV[2]), -1)"
    ),
    "lines of a run that is opened again expire": Mutant(LINES, "'out:', 'logs:' }", "'out:' }"),
    "a change of config is made twice": Mutant(
        CONFIG, "if redis.call('ZSCORE', P .. 'configops', op) then return { 'AGAIN', version } end\n"
    ),
    "nobody hears of a change of config": Mutant(
        CONFIG, "redis.call('PUBLISH', 'agnt5:config', version .. '\\n' .. name .. '\\n' .. rule)\n"
    ),
    "a change of config has no number of its own": Mutant(CONFIG, "'~version', 1))", "'~version', 0))"),
    "config grows without end": Mutant(CONFIG, "if not old and redis.call('HLEN'", "if false and redis.call('HLEN'"),
    "the history of config grows without end": Mutant(CONFIG, "'MAXLEN', ARGV[7], '*'", "'*'"),
    "operations on config are kept for ever": Mutant(CONFIG, "redis.call('PEXPIRE', P .. 'configops', DAY)\n"),
    "the bytes of a journal are not looked at": Mutant(BYTES, " or bytes > tonumber(ARGV[7]))", ")"),
    "the bytes of what an owner writes do not count": Mutant(
        BYTES, ", 'bytes', ms(bytes))", ")"
    ),
    "the bytes of what others write do not count": Mutant(
        BYTES, "if #e > SMALL then redis.call('HINCRBY', P .. 'run:' .. id, 'bytes', #e) end\n"
    ),
    "a new generation has the bytes of the old one": Mutant(BYTES, ", 'bytes', '0')", ")"),
    "a full journal takes signals": Mutant(BYTES, "if bytes > tonumber(ARGV[5]) then", "if false then"),
    "a limit of bytes is told as one of events": Mutant(
        BYTES, "length + bodies > limit and 'entries' or 'bytes'", "'entries'"
    ),
    "a changed value is sealed over": Mutant(
        BYTES, "if redis.call('HGET', key, ARGV[i]) == ARGV[i + 1] then", "if true then"
    ),
    "an end that no worker had is not noted": Mutant(
        MACHINE, "  else\n    note_end(id, r, ending, length, retention)\n"
    ),
    "a run timeout is noted as any failure": Mutant(MACHINE, "note_end(id, r, ending,", "note_end(id, r, status,"),
    "notes of ends outlive their runs": Mutant(MACHINE, "redis.call('PEXPIRE', key, retention)\n"),
    "notes of ends grow without end": Mutant(
        ENDS, "if redis.call('ZCARD', key) > UNTOLD then redis.call('ZPOPMIN', key) end\n"
    ),
    "two beats tell of one end": Mutant(ENDS, "redis.call('ZADD', key, ms(NOW + ARGV[2]), one)"),
    "what a dead beat was to tell is never told": Mutant(ENDS, "ms(NOW + ARGV[2]), one", "'+inf', one"),
    "memory is not looked at": Mutant(OUTAGES, "#!lua\n", "#!lua flags=allow-oom\n"),
}  # fmt: skip


def mutated(source: str, mutant: Mutant) -> str:
    """The script with the defect."""
    return source.replace(mutant.right, mutant.wrong)


def apply_mutant(name: str) -> None:
    """Let this process's store run the defective scripts."""
    mutant, original = MUTANTS[name], scripts.script

    @cache
    def script(script_name: str, *, posts: bool = False) -> scripts.Script:
        right = original(script_name, posts=posts)
        source = mutated(right.source, mutant)
        sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
        return scripts.Script(right.name, source, sha)

    assert any(mutant.right in original(known).source for known in scripts.NAMES), f"{name}: nothing to mutate"
    store.script = script
