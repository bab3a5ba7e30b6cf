-- Asks: what runs ask of people. One is open from its request until its decision, its due time or its withdrawal.
-- A run that ever had one in its present generation has the field `asks`; to all others they cost nothing.

-- Whether a list, a line each, holds a line.
local function holds(list, line) return string.find('\n' .. list .. '\n', '\n' .. line .. '\n', 1, true) ~= nil end

-- Put an open ask where it is looked for: the inbox, and the timers.
local function list_ask(id, ref, asked, due)
  redis.call('ZADD', P .. 'inbox', asked, id .. '|' .. ref)
  if due == '' then return end
  local member = 'a|' .. id .. '|' .. ref
  redis.call('ZADD', P .. 'timers', due, member)
  redis.call('SADD', P .. 'alarms:' .. id, member)
  nudge(member)
end

-- Append an event that code does not wait for: a parked run that had seen all of its journal has seen this too.
local function note(id, r, body)
  if (r.host or '') ~= '' then return tell(id, r, body) end
  local n = push(id, entry(body))
  if r.status == 'waiting' and redis.call('HGET', P .. 'run:' .. id, 'seen') == ms(n - 1) then
    redis.call('HSET', P .. 'run:' .. id, 'seen', ms(n))
  end
end

-- Open an ask. One that exists is left as it is, but for one that only the end of its run has closed.
-- due: ms, or ''. roles, people: who may decide, a line each, '' for anybody. barred: who may not, or ''.
local function open_ask(id, ref, due, quorum, roles, people, barred, body)
  local key = P .. 'ask:' .. id .. '|' .. ref
  local old = redis.call('HMGET', key, 'status', 'by', 'asked', 'due')
  if old[1] and not (old[1] == 'withdrawn' and old[2] == '|end') then return end
  if old[1] then
    redis.call('HSET', key, 'status', 'open', 'by', '', 'closed', '')
    return list_ask(id, ref, old[3], old[4])
  end
  redis.call('HSET', key, 'status', 'open', 'asked', NOW_S, 'due', due, 'quorum', quorum, 'roles', roles,
    'people', people, 'barred', barred, 'yes', '0', 'voters', '', 'votes', '', 'by', '', 'closed', '', 'refusals', '0',
    'request', entry(body))
  redis.call('SADD', P .. 'asks:' .. id, ref)
  redis.call('HSET', P .. 'run:' .. id, 'asks', '1')
  list_ask(id, ref, NOW_S, due)
end

-- Close an open ask; false if it was closed before. by: who decided, '' for nobody, '|end' for the end of the run.
local function close_ask(id, ref, status, by)
  local key, member = P .. 'ask:' .. id .. '|' .. ref, 'a|' .. id .. '|' .. ref
  if redis.call('HGET', key, 'status') ~= 'open' then return false end
  redis.call('HSET', key, 'status', status, 'by', by, 'closed', NOW_S)
  redis.call('ZREM', P .. 'inbox', id .. '|' .. ref)
  redis.call('ZREM', P .. 'timers', member)
  redis.call('SREM', P .. 'alarms:' .. id, member)
  return true
end

-- The due time of an ask has come: that is its answer, if it has none.
local function time_out(id, r, ref)
  local gen, seq = string.match(ref, '^(%d+)%.(%d+)$')
  if gen == r.gen and close_ask(id, ref, 'timeout', '') then
    tell(id, r, '{"e":"ApprovalDecided","seq":' .. seq .. ',"decision":"timeout"}')
  end
end

-- A run, or a generation of it, has ended: nobody waits for its asks any more, and they expire with it.
local function end_asks(id, retention, by)
  for _, ref in ipairs(redis.call('SMEMBERS', P .. 'asks:' .. id)) do
    close_ask(id, ref, 'withdrawn', by)
    redis.call('PEXPIRE', P .. 'ask:' .. id .. '|' .. ref, retention)
  end
  redis.call('PEXPIRE', P .. 'asks:' .. id, retention)
end

-- A run goes on after all: its asks stay with it, and the open ones are where they are looked for.
local function keep_asks(id)
  for _, ref in ipairs(redis.call('SMEMBERS', P .. 'asks:' .. id)) do
    local key = P .. 'ask:' .. id .. '|' .. ref
    redis.call('PERSIST', key)
    local a = redis.call('HMGET', key, 'status', 'asked', 'due')
    if a[1] == 'open' then list_ask(id, ref, a[2], a[3]) end
  end
  redis.call('PERSIST', P .. 'asks:' .. id)
end
