#!lua
-- continue_as_new: begin the next generation of a run under the same id, if its owner has seen all of its journal.
-- Uses: core fence claims asks locks budgets ends
-- ARGV: id epoch op seen retention body carried (count, then each entry as it was)
-- Replies: OK length now | MORE length | AGAIN length | STALE status | GAP op
local id, epoch, op, seen = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local r = load(id)
local refused = fence(id, r, epoch, op)
if refused and refused[1] == 'AGAIN' and r.epoch == epoch and r.more == ARGV[3] then refused[1] = 'MORE' end
if refused then return refused end
local key, log = P .. 'run:' .. id, P .. 'log:' .. id
redis.call('HSET', key, 'op', ARGV[3])
local length = redis.call('LLEN', log)
if length > seen then
  redis.call('HSET', key, 'more', ARGV[3])
  return { 'MORE', ms(length) }
end
local old = P .. 'old:' .. id .. ':' .. r.gen
redis.call('RENAME', log, old)
redis.call('PEXPIRE', old, ARGV[5])
redis.call('DEL', P .. 'kids:' .. id)
unset_timers(id)
if r.asks then
  end_asks(id, ARGV[5], '')
  redis.call('DEL', P .. 'asks:' .. id)
  redis.call('HDEL', key, 'asks')
end
redis.call('HSET', key, 'gen', ms(r.gen + 1), 'seen', '0', 'bytes', '0')
length = push(id, entry(ARGV[6]))
for i = 8, 7 + tonumber(ARGV[7]) do length = push(id, ARGV[i]) end
return { 'OK', ms(length), NOW_S }
