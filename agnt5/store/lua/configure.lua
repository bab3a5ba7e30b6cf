#!lua
-- Set or unset a key of config, once per operation, and tell all hosts. Shard 0 only.
-- `config` has a key's rule by its name, and the number of changes so far as '~version'. `configlog` keeps the latest
-- changes, `configops` the operations of a day. GONE: there is nothing to unset. FULL: there are as many keys as may be.
-- Uses: core
-- ARGV: operation key rule who comment most kept
-- Replies: OK version | AGAIN version | GONE | FULL
local DAY = 86400000 -- ms
local op, name, rule = ARGV[1], ARGV[2], ARGV[3] -- rule '' unsets
local version = redis.call('HGET', P .. 'config', '~version') or '0'
if redis.call('ZSCORE', P .. 'configops', op) then return { 'AGAIN', version } end
local old = redis.call('HGET', P .. 'config', name)
if rule == '' and not old then return { 'GONE' } end
-- the version is a field too
if not old and redis.call('HLEN', P .. 'config') > tonumber(ARGV[6]) then return { 'FULL' } end
version = ms(redis.call('HINCRBY', P .. 'config', '~version', 1))
if rule == '' then
  redis.call('HDEL', P .. 'config', name)
else
  redis.call('HSET', P .. 'config', name, rule)
end
redis.call('XADD', P .. 'configlog', 'MAXLEN', ARGV[7], '*', 'version', version, 'key', name, 'old', old or '', 'new',
  rule, 'who', ARGV[4], 'comment', ARGV[5])
redis.call('ZADD', P .. 'configops', NOW_S, op)
redis.call('ZREMRANGEBYSCORE', P .. 'configops', '-inf', ms(NOW - DAY))
redis.call('PEXPIRE', P .. 'configops', DAY)
redis.call('PUBLISH', 'agnt5:config', version .. '\n' .. name .. '\n' .. rule)
return { 'OK', version }
