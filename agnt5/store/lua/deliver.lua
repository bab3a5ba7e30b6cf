#!lua
-- Put an outside event (a signal) into a run's journal, once per operation id.
-- Uses: core
-- ARGV: id operation body limit limit_bytes
-- Replies: OK out | DUPLICATE | GONE | ENDED status | LIMIT what found
local id = ARGV[1]
local r = load(id)
if not r then return { 'GONE' } end
if redis.call('SISMEMBER', P .. 'ops:' .. id, ARGV[2]) == 1 then return { 'DUPLICATE' } end
if ENDED[r.status] then return { 'ENDED', r.status } end
local length = redis.call('LLEN', P .. 'log:' .. id)
if length >= tonumber(ARGV[4]) then return { 'LIMIT', 'entries', ms(length) } end
local bytes = tonumber(redis.call('HGET', P .. 'run:' .. id, 'bytes') or '0') + #ARGV[3]
if bytes > tonumber(ARGV[5]) then return { 'LIMIT', 'bytes', ms(bytes) } end
redis.call('SADD', P .. 'ops:' .. id, ARGV[2])
tell(id, r, ARGV[3])
return { 'OK', OUT }
