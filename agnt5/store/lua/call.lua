#!lua
-- Call a method of an entity, once per id. A write whose entity is busy waits in line for the lock.
-- Uses: core claims births locks
-- ARGV: id handler mode queue priority body digest timeout caller host nonce
-- mode: write or read; digest, caller: '' where a run calls (it repeats itself by id), else as for `create`
-- nonce: '', or that of the claim by which the calling host runs the call itself if nothing is in its way
-- Replies: CREATED now out heir | EXISTS status heir | DUPLICATE handler
local id, handler, mode, digest, caller = ARGV[1], ARGV[2], ARGV[3], ARGV[7], ARGV[9]
local key, e = P .. 'run:' .. id, entity_of(id)
TAKER, NONCE = ARGV[11] ~= '' and ARGV[10] or '', ARGV[11]
local old = load(id, CLAIM)
if old then
  if digest ~= '' and (redis.call('HGET', key, 'digest') ~= digest or old.handler ~= handler) then
    return { 'DUPLICATE', old.handler }
  end
  tell_again(id, old)
  return { 'EXISTS', old.status, HEIR }
end
local r = bear(id, handler, 'entity', ARGV[4], ARGV[5], ARGV[6], digest, ARGV[8])
if caller ~= '' then redis.call('HSET', key, 'caller', caller) end
local holder = mode == 'write' and redis.call('HGET', P .. 'lock:' .. e, 'run') or ''
if holder and holder ~= '' then
  redis.call('HSET', key, 'lock', 'line', 'status', 'waiting')
  redis.call('RPUSH', P .. 'line:' .. e, id)
  return { 'CREATED', NOW_S, OUT, HEIR }
end
if mode == 'write' then
  redis.call('HSET', key, 'lock', 'held')
  redis.call('HSET', P .. 'lock:' .. e, 'run', id)
end
if TAKER ~= '' then bring_on(id, load(id, CLAIM)) else list(id, r) end
return { 'CREATED', NOW_S, OUT, HEIR }
