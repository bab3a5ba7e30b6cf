#!lua
-- End a write of an entity: its changes of the state, its result, and the hand-over of the lock are one step.
-- Only a completed method changes anything.
-- Uses: core fence claims asks locks ends
-- ARGV: id epoch op host status payload retention nonce sets (count, then key value each) deletes (count, then each)
-- nonce: '', or that of the claim by which the host takes the next call itself
-- Replies: OK now out mail heir | AGAIN length heir | STALE status | GAP op
local id, epoch, op, status = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[5]
ME, TAKER, NONCE = ARGV[4], ARGV[8] ~= '' and ARGV[4] or '', ARGV[8]
local key, e = P .. 'run:' .. id, entity_of(id)
local r = load(id, { 'status', 'host', 'epoch', 'op', 'gen', 'fin', 'finop', 'deadline', 'heir' })
local refused = fence(id, r, epoch, op)
if refused then
  if refused[1] ~= 'AGAIN' then return refused end
  -- the lost reply had named the next call, which this host owns since then
  local n = r.heir and load(r.heir, WAITER)
  if n and n.host == ME and string.match(n.epoch, ':(.*)$') == NONCE then HEIR = heir(r.heir, n, n.epoch) end
  return { 'AGAIN', refused[2], HEIR }
end
r.op = ARGV[3]
local ent, lock, at, changes = P .. 'ent:' .. e, P .. 'lock:' .. e, 9, 0
if redis.call('HGET', lock, 'run') ~= id then return { 'STALE', 'without its lock' } end
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
  redis.call('HINCRBY', lock, 'writes', 1)
  redis.call('HSET', lock, 'updated', NOW_S)
  if redis.call('EXISTS', ent) == 0 then
    redis.call('ZREM', P .. 'ents:' .. sort, e)
  elseif redis.call('ZADD', P .. 'ents:' .. sort, NOW_S, e) == 1 then
    redis.call('SADD', P .. 'sorts', sort)
  end
end
end_run(id, r, status, ARGV[6], ARGV[7])
if HEIR[1] then redis.call('HSET', key, 'heir', HEIR[1]) end
return { 'OK', NOW_S, OUT, MAIL, HEIR }
