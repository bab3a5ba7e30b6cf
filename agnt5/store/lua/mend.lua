#!lua
-- Make a run's index entries agree with its record, and queue it if nothing else would bring it on. For a doctor.
-- Safe on a sound run: at worst it is looked at once more than needed.
-- Uses: core claims asks locks budgets ends strikes
-- ARGV: id entry member retention
-- entry: an index, named without the prefix, that holds `member` on behalf of this run; '' for none. It is struck off
-- if the record does not agree. Of `kids:<parent>` the parent is told or woken.
-- Replies: OK out | GONE out
local id, entry_key, member, retention = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local r = load(id)
local live = r and not ENDED[r.status]
local e = entity_of(id)
local place = e and redis.call('HGET', P .. 'run:' .. id, 'lock')

if entry_key ~= '' then strike(entry_key, member, id, r, live, place) end
if not r then return { 'GONE', OUT } end

local key = P .. 'run:' .. id
if not live then
  for _, k in ipairs({ 'run:', 'log:', 'ops:', 'out:', 'logs:' }) do
    if redis.call('PTTL', P .. k .. id) == -1 then redis.call('PEXPIRE', P .. k .. id, retention) end
  end
  redis.call('HSET', key, 'host', '', 'epoch', '')
  redis.call('DEL', P .. 'kids:' .. id)
  redis.call('ZREM', P .. 'timers', 'r|' .. id, 'd|' .. id)
  redis.call('ZREM', P .. 'open', id)
  unset_timers(id)
  if r.asks then end_asks(id, retention, '|end') end
  local ended = redis.call('HGET', key, 'ended')
  if redis.call('HEXISTS', key, 'caller') == 1 then redis.call('ZADD', P .. 'answers', 'NX', ended or NOW_S, id) end
  if not (r.parent or e) then redis.call('ZADD', P .. 'ended', 'NX', ended or NOW_S, id) end
  return { 'OK', OUT }
end

for _, k in ipairs({ 'run:', 'log:', 'ops:', 'out:', 'logs:' }) do redis.call('PERSIST', P .. k .. id) end
if r.asks then keep_asks(id) end
if not (r.parent or e) then redis.call('ZADD', P .. 'open', 'NX', redis.call('HGET', key, 'created'), id) end
if r.deadline and tonumber(r.deadline) > NOW then
  redis.call('ZADD', P .. 'timers', 'NX', r.deadline, 'd|' .. id)
  nudge('d|' .. id)
end
if place and stands(e, id, place) then return { 'OK', OUT } end
if r.host and r.host ~= '' then
  redis.call('SADD', P .. 'owned:' .. r.host, id)
elseif r.status == 'waiting' and r.retry then
  redis.call('ZADD', P .. 'timers', 'NX', r.retry, 'r|' .. id)
  nudge('r|' .. id)
elseif r.status == 'waiting' and r.trouble then
  redis.call('SADD', P .. 'refused', id)
else
  enqueue(id, r)
end
return { 'OK', OUT }
