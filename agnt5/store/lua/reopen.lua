#!lua
-- Open a failed root run again: its recorded failures count as not recorded.
-- Uses: core asks budgets
-- ARGV: id
-- Replies: OK out | GONE | NOT_FAILED status | CHILD parent | CALL
local id = ARGV[1]
local r = load(id)
if not r then return { 'GONE' } end
if r.parent then return { 'CHILD', r.parent } end
if string.find(id, '~@', 1, true) then return { 'CALL' } end
if r.status == 'queued' and string.match(redis.call('LINDEX', P .. 'log:' .. id, -1), '^{"at":%d+,"e":"RunReopened"}$')
then
  return { 'OK', OUT } -- this very request was applied before
end
if r.status ~= 'failed' then return { 'NOT_FAILED', r.status } end
local key = P .. 'run:' .. id
redis.call('RPUSH', P .. 'log:' .. id, entry('{"e":"RunReopened"}'))
redis.call('HDEL', key, 'ended', 'crashes', 'danger', 'failures', 'retry', 'fin', 'deadline')
redis.call('HSET', key, 'attempt', ms(r.attempt + 1), 'newtry', '1')
for _, k in ipairs({ 'run:', 'log:', 'ops:', 'out:', 'logs:' }) do redis.call('PERSIST', P .. k .. id) end
if r.asks then keep_asks(id) end
if redis.call('EXISTS', P .. 'budget:tree:' .. id) == 1 then keep_budget('tree:' .. id, '') end
redis.call('ZREM', P .. 'ended', id)
redis.call('ZADD', P .. 'open', NOW_S, id)
enqueue(id, r)
return { 'OK', OUT }
