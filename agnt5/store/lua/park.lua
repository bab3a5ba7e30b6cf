#!lua flags=allow-oom
-- Give a run back. wait: only if its owner has seen all of its journal; queue: at once, to be claimed again;
-- refuse: the code does not fit the journal, `trouble` says why; a starting worker wakes it; drop: to be claimed
-- again, by an owner that lost count of its writes because the store came back older.
-- Uses: core fence
-- ARGV: id epoch op mode seen trouble
-- Replies: OK out | MORE length | AGAIN length | STALE status | GAP op
local id, epoch, op, mode, seen = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local r = load(id)
local refused = fence(id, r, epoch, op)
if mode == 'drop' and r and r.epoch == epoch then refused = nil end
if refused and refused[1] == 'AGAIN' and r.epoch == epoch and r.more == ARGV[3] then refused[1] = 'MORE' end
if refused then return refused end
local key = P .. 'run:' .. id
local length = redis.call('LLEN', P .. 'log:' .. id)
if mode == 'wait' and length > seen then
  redis.call('HSET', key, 'op', ARGV[3], 'more', ARGV[3])
  return { 'MORE', ms(length) }
end
redis.call('HSET', key, 'host', '', 'epoch', '', 'fin', mode == 'drop' and '' or epoch, 'finop', ARGV[3],
  'seen', ms(seen), 'status', 'waiting')
redis.call('HDEL', key, 'danger')
redis.call('SREM', P .. 'owned:' .. r.host, id)
if mode == 'queue' or mode == 'drop' then enqueue(id, r) end
if mode == 'refuse' then
  redis.call('SADD', P .. 'refused', id)
  redis.call('HSET', key, 'trouble', ARGV[6])
end
return { 'OK', OUT }
