#!lua flags=allow-oom
-- Tell a run how its call of an entity in another shard ended, once per operation id.
-- Uses: core
-- ARGV: id generation operation host body
-- host: the calling host, which gets events of its own runs by mail
-- Replies: OK out mail | DUPLICATE | GONE | ENDED status | PASSED generation
local id = ARGV[1]
ME = ARGV[4]
local r = load(id, ROUTE)
if not r then return { 'GONE' } end
if ENDED[r.status] then return { 'ENDED', r.status } end
if r.gen ~= ARGV[2] then return { 'PASSED', r.gen } end
if redis.call('SADD', P .. 'ops:' .. id, ARGV[3]) == 0 then return { 'DUPLICATE' } end
tell(id, r, ARGV[5])
return { 'OK', OUT, MAIL }
