#!lua
-- Queue a parked run that was refused, for a worker which may have code that fits.
-- Uses: core
-- ARGV: id
-- Replies: OK out
local r = load(ARGV[1])
redis.call('SREM', P .. 'refused', ARGV[1])
if r and r.status == 'waiting' and (r.host or '') == '' and not r.retry then
  redis.call('HDEL', P .. 'run:' .. ARGV[1], 'trouble')
  enqueue(ARGV[1], r)
end
return { 'OK', OUT }
