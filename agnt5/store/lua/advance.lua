#!lua
-- Claim one due time of a plain beat entry: of several beats that find it due, one sends it.
-- Uses: core
-- ARGV: entry last now
-- Replies: OK | TAKEN
local key, stored = P .. 'static', redis.call('HGET', P .. 'static', ARGV[1])
if stored and stored ~= ARGV[2] then return 'TAKEN' end
redis.call('HSET', key, ARGV[1], ARGV[3])
return 'OK'
