-- Shared by every script: put in front of it when it is loaded. Not a script of its own.
-- KEYS[1] is the shard's prefix 'agnt5:{s<k>}:'. All keys of a shard share its hash tag, so that names may be
-- derived from it here (store/keys.py is their list). Payloads are opaque bytes, only ever concatenated.
local P = KEYS[1]
local TIME = redis.call('TIME')
local NOW = TIME[1] * 1000 + math.floor(TIME[2] / 1000)
local function ms(n) return string.format('%.0f', n) end
local NOW_S = ms(NOW)
local OUT = {}  -- messages that the caller sends: queue, priority, handler, id (flat)
local MAIL = {} -- events of runs which the calling host owns: id, journal length, entry (flat)
local ME = ''   -- the calling host, where there is one
local ENDED = { completed = true, failed = true, cancelled = true }

local FIELDS = { 'status', 'host', 'epoch', 'op', 'queue', 'priority', 'handler', 'kind', 'parent', 'pseq',
  'pgen', 'gen', 'attempt', 'crashes', 'failures', 'retry', 'started', 'queued', 'fin', 'finop', 'danger', 'deadline',
  'full', 'more', 'told', 'trouble' }

-- The record of a run as a table, or nil.
local function load(id)
  local v = redis.call('HMGET', P .. 'run:' .. id, unpack(FIELDS))
  if not v[1] then return nil end
  local r = {}
  for i, name in ipairs(FIELDS) do r[name] = v[i] or nil end
  return r
end

local function entry(body) return '{"at":' .. NOW_S .. ',' .. string.sub(body, 2) end

-- Make a run claimable and ask the caller for its message.
local function enqueue(id, r)
  local slot = r.queue .. ':' .. r.priority
  redis.call('HSET', P .. 'run:' .. id, 'status', 'queued', 'queued', NOW_S, 'sent', NOW_S, 'sends', '0')
  redis.call('ZADD', P .. 'queued:' .. slot, NOW_S, id)
  redis.call('SADD', P .. 'queues', slot)
  local n = #OUT
  OUT[n + 1], OUT[n + 2], OUT[n + 3], OUT[n + 4] = r.queue, r.priority, r.handler, id
end

local function dequeue(id, r) redis.call('ZREM', P .. 'queued:' .. r.queue .. ':' .. r.priority, id) end

-- Append one event and let the run's owner know: by reply, by channel, or by queueing a parked run.
local function tell(id, r, body)
  local e = entry(body)
  local n = redis.call('RPUSH', P .. 'log:' .. id, e)
  if r.host and r.host ~= '' then
    if r.host == ME then
      local m = #MAIL
      MAIL[m + 1], MAIL[m + 2], MAIL[m + 3] = id, n, e
    else
      redis.call('PUBLISH', 'agnt5:host:' .. r.host, id .. '\n' .. n .. '\n' .. e)
    end
  elseif r.status == 'waiting' and not r.retry then
    enqueue(id, r)
  end
end

-- Take back all timers of a run.
local function unset_timers(id)
  local members = redis.call('SMEMBERS', P .. 'alarms:' .. id)
  if #members == 0 then return end
  for _, member in ipairs(members) do redis.call('ZREM', P .. 'timers', member) end
  redis.call('DEL', P .. 'alarms:' .. id)
end

local cancel_run

-- Write a run's end: journal, record, indexes, the parent's completion, the waiters' channel, expiry.
-- status: completed, failed, cancelled, or timeout (failed; like a cancelled run's, its open children end too).
-- payload: the JSON of the result, of the error, or (cancelled) of the reason.
local ENDINGS = {
  timeout = { '{"e":"RunFailed","error":', '{"e":"TaskFailed","seq":', ',"error":', '}', 'timed out' },
  completed = { '{"e":"RunCompleted","result":', '{"e":"TaskCompleted","seq":', ',"result":', '}' },
  failed = { '{"e":"RunFailed","error":', '{"e":"TaskFailed","seq":', ',"error":', '}' },
  cancelled = { '{"e":"RunCancelled","reason":', '{"e":"TaskFailed","seq":',
    ',"error":{"type":"RunCancelledError","message":', '}}', 'cancelled' },
}
local function end_run(id, r, status, payload, retention)
  local form, cancels = ENDINGS[status], status == 'cancelled' or status == 'timeout'
  if status == 'timeout' then status = 'failed' end
  local last = entry(form[1] .. payload .. '}')
  redis.call('RPUSH', P .. 'log:' .. id, last)
  redis.call('HSET', P .. 'run:' .. id, 'status', status, 'ended', NOW_S, 'host', '', 'epoch', '', 'fin',
    r.epoch or '', 'finop', r.op or '0')
  if r.status == 'queued' then dequeue(id, r) end
  if r.host and r.host ~= '' then redis.call('SREM', P .. 'owned:' .. r.host, id) end
  if r.retry then redis.call('ZREM', P .. 'timers', 'r|' .. id) end
  if r.deadline then redis.call('ZREM', P .. 'timers', 'd|' .. id) end
  unset_timers(id)
  if r.trouble then redis.call('SREM', P .. 'refused', id) end
  if cancels then
    for _, kid in ipairs(redis.call('HKEYS', P .. 'kids:' .. id)) do
      cancel_run(kid, '"its parent was ' .. form[5] .. '"', retention)
    end
  end
  redis.call('DEL', P .. 'kids:' .. id)
  if not r.parent then
    redis.call('ZREM', P .. 'open', id)
    redis.call('ZADD', P .. 'ended', NOW_S, id)
  elseif redis.call('HDEL', P .. 'kids:' .. r.parent, id) == 1 then
    local p = load(r.parent)
    if p and not ENDED[p.status] and p.gen == r.pgen then
      redis.call('HSET', P .. 'run:' .. id, 'told', '1')
      tell(r.parent, p, form[2] .. r.pseq .. form[3] .. payload .. form[4])
    end
  end
  redis.call('PEXPIRE', P .. 'run:' .. id, retention)
  redis.call('PEXPIRE', P .. 'log:' .. id, retention)
  redis.call('PEXPIRE', P .. 'ops:' .. id, retention)
  redis.call('PUBLISH', 'agnt5:done:' .. id, last)
end

-- Tell a parent of a child that had ended when nobody listened: its last entry holds the outcome.
local function tell_end(child, id, r, seq)
  local last = redis.call('LINDEX', P .. 'log:' .. child, -1) or ''
  local head = string.match(last, '^{"at":%d+,') or ''
  for _, status in ipairs({ 'completed', 'failed', 'cancelled' }) do
    local form = ENDINGS[status]
    local mark = string.sub(form[1], 2)
    if string.sub(last, #head + 1, #head + #mark) == mark then
      redis.call('HSET', P .. 'run:' .. child, 'told', '1')
      return tell(id, r, form[2] .. seq .. form[3] .. string.sub(last, #head + #mark + 1, -2) .. form[4])
    end
  end
end

-- Ask a run to end. One that nobody runs and that has nothing to clean up ends at once.
cancel_run = function(id, reason, retention)
  local r = load(id)
  if not r or ENDED[r.status] then return false end
  local hosted = r.host and r.host ~= ''
  if not hosted and (r.kind ~= 'workflow' or not r.started) then
    end_run(id, r, 'cancelled', reason, retention)
  else
    if r.retry and not hosted then -- it need not wait for its next attempt to end
      redis.call('HDEL', P .. 'run:' .. id, 'retry')
      redis.call('ZREM', P .. 'timers', 'r|' .. id)
      r.retry = nil
    end
    tell(id, r, '{"e":"CancelRequested","reason":' .. reason .. '}')
  end
  return true
end

-- Write a new run's record and first journal entry, and queue it. `parent`, `pseq`, `pgen`: '' for a root.
local function create_run(id, handler, kind, queue, priority, body, digest, timeout, parent, pseq, pgen)
  local r = { queue = queue, priority = priority, handler = handler }
  local key = P .. 'run:' .. id
  redis.call('HSET', key, 'handler', handler, 'kind', kind, 'queue', queue, 'priority', priority, 'created', NOW_S,
    'attempt', '0', 'gen', '0', 'digest', digest)
  redis.call('RPUSH', P .. 'log:' .. id, entry(body))
  if parent ~= '' then
    redis.call('HSET', key, 'parent', parent, 'pseq', pseq, 'pgen', pgen)
  else
    redis.call('ZADD', P .. 'open', NOW_S, id)
  end
  if timeout ~= '' then
    redis.call('HSET', key, 'deadline', ms(NOW + timeout))
    redis.call('ZADD', P .. 'timers', ms(NOW + timeout), 'd|' .. id)
  end
  enqueue(id, r)
end

-- Let beat know when a timer became the earliest of the shard.
local function nudge(member)
  if redis.call('ZRANGE', P .. 'timers', 0, 0)[1] == member then redis.call('PUBLISH', 'agnt5:beat', '1') end
end

-- The fence of every owner's script: nil when `op` may be applied now, else the reply to give.
-- STALE: another owner. AGAIN: this very call was applied before. GAP: an earlier call is still missing.
-- An owner that gave its run back may have numbered later writes: those were not applied, hence finop.
local function fence(id, r, epoch, op)
  if not r then return { 'STALE', 'gone' } end
  if r.epoch ~= epoch then
    if r.fin == epoch and op <= tonumber(r.finop or '0') then
      return { 'AGAIN', ms(redis.call('LLEN', P .. 'log:' .. id)) }
    end
    return { 'STALE', r.status }
  end
  local last = tonumber(r.op or '0')
  if op <= last then return { 'AGAIN', ms(redis.call('LLEN', P .. 'log:' .. id)) } end
  if op ~= last + 1 then return { 'GAP', ms(last) } end
  return nil
end
