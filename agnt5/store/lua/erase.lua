#!lua flags=allow-oom
-- Delete an entity, if no call holds its lock. Its calls' own records stay until their retention.
-- Uses: core
-- ARGV: entity
-- Replies: OK | BUSY holder | GONE
local e = ARGV[1]
local lock = P .. 'lock:' .. e
local holder = redis.call('HGET', lock, 'run')
if holder and holder ~= '' then return { 'BUSY', holder } end
if redis.call('EXISTS', P .. 'ent:' .. e) == 0 then return { 'GONE' } end
redis.call('DEL', P .. 'ent:' .. e, lock, P .. 'recent:' .. e)
redis.call('ZREM', P .. 'ents:' .. string.match(e, '^[^/]*'), e)
return { 'OK' }
