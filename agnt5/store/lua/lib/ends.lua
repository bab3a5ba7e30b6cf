-- How runs end, and how they are asked to.

-- Take back all timers of a run.
local function unset_timers(id)
  local members = redis.call('SMEMBERS', P .. 'alarms:' .. id)
  if #members == 0 then return end
  for _, member in ipairs(members) do redis.call('ZREM', P .. 'timers', member) end
  redis.call('DEL', P .. 'alarms:' .. id)
end

-- Note the end of a run that no worker had, for a beat to tell of. Where no beat takes them, the oldest are dropped.
local UNTOLD = 20000
local function note_end(id, r, ending, length, retention)
  local key = P .. 'untold'
  redis.call('ZADD', key, NOW_S, table.concat({ id, ending, r.gen, r.attempt, length, NOW_S, r.handler }, '|'))
  if redis.call('ZCARD', key) > UNTOLD then redis.call('ZPOPMIN', key) end
  redis.call('PEXPIRE', key, retention)
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
  local form, cancels, ending = ENDINGS[status], status == 'cancelled' or status == 'timeout', status
  if status == 'timeout' then status = 'failed' end
  local last, told, e = entry(form[1] .. payload .. '}'), '', entity_of(id)
  local length = redis.call('RPUSH', P .. 'log:' .. id, last)
  if e then
    end_call(e, id, r)
  elseif not r.parent then
    redis.call('ZREM', P .. 'open', id)
    redis.call('ZADD', P .. 'ended', NOW_S, id)
  elseif redis.call('HDEL', P .. 'kids:' .. r.parent, id) == 1 then
    local p = load(r.parent, ROUTE)
    if p and not ENDED[p.status] and p.gen == r.pgen then
      told = '1'
      tell(r.parent, p, form[2] .. r.pseq .. form[3] .. payload .. form[4])
    end
  end
  redis.call('HSET', P .. 'run:' .. id, 'status', status, 'ended', NOW_S, 'host', '', 'epoch', '', 'fin',
    r.epoch or '', 'finop', r.op or '0', 'told', told)
  if r.status == 'queued' then dequeue(id, r) end
  if r.host and r.host ~= '' then
    redis.call('SREM', P .. 'owned:' .. r.host, id)
  else
    note_end(id, r, ending, length, retention)
  end
  if r.retry then redis.call('ZREM', P .. 'timers', 'r|' .. id) end
  if r.deadline then redis.call('ZREM', P .. 'timers', 'd|' .. id) end
  unset_timers(id)
  if r.asks then end_asks(id, retention, '|end') end
  if r.trouble then redis.call('SREM', P .. 'refused', id) end
  if not (r.parent or r.caller) then end_budget(id, retention) end
  if cancels then
    for _, kid in ipairs(redis.call('HKEYS', P .. 'kids:' .. id)) do
      cancel_run(kid, '"its parent was ' .. form[5] .. '"', retention)
    end
  end
  redis.call('DEL', P .. 'kids:' .. id)
  redis.call('PEXPIRE', P .. 'run:' .. id, retention)
  redis.call('PEXPIRE', P .. 'log:' .. id, retention)
  redis.call('PEXPIRE', P .. 'ops:' .. id, retention)
  redis.call('PEXPIRE', P .. 'out:' .. id, retention)
  redis.call('PEXPIRE', P .. 'logs:' .. id, retention)
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
