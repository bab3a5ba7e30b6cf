#!lua
-- End a write of an entity: its changes of the state, its result, and the hand-over of the lock are one step.
-- Only a completed method changes anything.
-- Uses: core fence claims asks locks budgets ends
-- ARGV: id epoch op host status payload retention nonce sets (count, then key value each) deletes (count, then each)
-- nonce: '', or that of the claim by which the host takes the next call itself
-- Replies: OK now out mail heir | AGAIN length heir | STALE status | GAP op
local id, epoch, op, status = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[5]
ME, TAKER, NONCE = ARGV[4], ARGV[8] ~= '' and ARGV[4] or '', ARGV[8]
local e = entity_of(id)
local lock = P .. 'lock:' .. e
local r = load(id, { 'status', 'host', 'epoch', 'op', 'gen', 'fin', 'finop', 'deadline', 'lock', 'caller' })
local holder, writes = unpack(redis.call('HMGET', lock, 'run', 'writes'))
local refused = fence(id, r, epoch, op)
if refused then
  if refused[1] ~= 'AGAIN' then return refused end
  local n = load(holder or '', CLAIM) -- the lost reply may have named the call that holds the lock since then
  if n then tell_again(holder, n) end
  return { 'AGAIN', refused[2], HEIR }
end
if holder ~= id then return { 'STALE', 'without its lock' } end
r.op = ARGV[3]
local ent, at, changes = P .. 'ent:' .. e, 9, 0
local sets = tonumber(ARGV[at])
for _ = 1, sets do
  redis.call('HSET', ent, ARGV[at + 1], ARGV[at + 2])
  at, changes = at + 2, changes + 1
end
at = at + 1
for _ = 1, tonumber(ARGV[at]) do
  at = at + 1
  changes = changes + redis.call('HDEL', ent, ARGV[at])
end
if changes > 0 then
  local sort = string.match(e, '^[^/]*')
  redis.call('HSET', lock, 'writes', ms((writes or 0) + 1), 'updated', NOW_S)
  if sets == 0 and redis.call('EXISTS', ent) == 0 then
    redis.call('ZREM', P .. 'ents:' .. sort, e)
  elseif redis.call('ZADD', P .. 'ents:' .. sort, NOW_S, e) == 1 then
    redis.call('SADD', P .. 'sorts', sort)
  end
end
end_run(id, r, status, ARGV[6], ARGV[7])
return { 'OK', NOW_S, OUT, MAIL, HEIR }
