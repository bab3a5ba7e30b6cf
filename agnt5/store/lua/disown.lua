#!lua flags=allow-oom
-- Queue a run that is listed as its host's, but that the host does not know: the store came back older than the host.
-- Uses: core
-- ARGV: id host
-- Replies: OK out
local id, host = ARGV[1], ARGV[2]
local r = load(id)
redis.call('SREM', P .. 'owned:' .. host, id)
if r and r.host == host and not ENDED[r.status] then
  redis.call('HSET', P .. 'run:' .. id, 'host', '', 'epoch', '', 'fin', '', 'newtry', '1', 'attempt', ms(r.attempt + 1))
  enqueue(id, r)
end
return { 'OK', OUT }
