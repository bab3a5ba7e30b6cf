#!lua flags=allow-oom
-- An attempt failed and another follows after `delay` ms: give the run back until then.
-- Uses: core fence claims asks locks budgets ends
-- ARGV: id epoch op attempt error delay
-- Replies: OK due out | AGAIN length | STALE status | GAP op
local id, epoch, op, delay = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[6])
local r = load(id)
local refused = fence(id, r, epoch, op)
if refused then return refused end
local key, due = P .. 'run:' .. id, ms(NOW + delay)
push(id, entry('{"e":"AttemptFailed","attempt":' .. ARGV[4] .. ',"error":' .. ARGV[5]
  .. ',"retry_at_ms":' .. due .. '}'))
redis.call('HSET', key, 'status', 'waiting', 'host', '', 'epoch', '', 'fin', epoch, 'finop', ARGV[3], 'retry', due,
  'newtry', '1', 'attempt', ms(r.attempt + 1), 'failures', ms((r.failures or 0) + 1))
redis.call('HDEL', key, 'crashes', 'danger')
redis.call('SREM', P .. 'owned:' .. r.host, id)
unset_timers(id)
if delay <= 0 then
  redis.call('HDEL', key, 'retry')
  enqueue(id, r)
else
  redis.call('ZADD', P .. 'timers', due, 'r|' .. id)
  nudge('r|' .. id)
end
return { 'OK', due, OUT }
