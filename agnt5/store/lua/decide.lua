#!lua
-- Take one person's decision on an ask, once per operation id: it is refused, or one of a quorum, or the answer.
-- Uses: core asks
-- ARGV: id ref operation approver roles decision who more limit
-- roles: those of the approver, a line each. who, more: JSON members, of approver and decision, of comment and data.
-- status: of the ask, after this; by, at: who closed it and when. A refusal stays in the journal while there is room.
-- Replies: OK status by at out | CLOSED status by at out | ROLE status by at out | ASSIGNEE status by at out
--        | SELF status by at out | VOTED status by at out | NONE | ENDED status | GONE
local REFUSALS = 100 -- that the journal keeps, of one ask
local id, ref, op, approver, decision = ARGV[1], ARGV[2], 'o:' .. ARGV[3], ARGV[4], ARGV[6]
local key, r = P .. 'ask:' .. id .. '|' .. ref, load(id)
if not r then return { 'GONE' } end
local v = redis.call('HMGET', key, 'status', 'due', 'quorum', 'roles', 'people', 'barred', 'yes', 'voters', 'votes',
  'refusals', op)
local status, due, quorum, roles, people, barred, yes, voters, votes, refusals, before = unpack(v)
if not status then
  if ENDED[r.status] then return { 'ENDED', r.status } end
  return { 'NONE' }
end
local function answer(word)
  local now = redis.call('HMGET', key, 'status', 'by', 'closed')
  return { word, now[1], now[2], now[3], OUT }
end
if before then return answer(before) end -- this very call was applied before, and its reply lost
if status == 'withdrawn' and ENDED[r.status] then return { 'ENDED', r.status } end
if status == 'open' and due ~= '' and tonumber(due) <= NOW then -- before beat has come to it
  time_out(id, r, ref)
  status = 'timeout'
end

local function refusal()
  if status ~= 'open' then return 'CLOSED' end
  if roles ~= '' then
    local allowed = false
    for role in string.gmatch(ARGV[5], '[^\n]+') do allowed = allowed or holds(roles, role) end
    if not allowed then return 'ROLE' end
  end
  if people ~= '' and not holds(people, approver) then return 'ASSIGNEE' end
  if barred == approver then return 'SELF' end
  if holds(voters, approver) then return 'VOTED' end
end
local gen, seq = string.match(ref, '^(%d+)%.(%d+)$')
local why = refusal()
if why then
  local room = tonumber(refusals) < REFUSALS and redis.call('LLEN', P .. 'log:' .. id) < tonumber(ARGV[9]) / 2
  if room and gen == r.gen and not ENDED[r.status] then
    redis.call('HSET', key, 'refusals', ms(refusals + 1), op, why)
    note(id, r, '{"e":"DecisionRefused","seq":' .. seq .. ARGV[7] .. ',"why":"' .. string.lower(why) .. '"}')
  end
  return answer(why)
end

if decision == 'approved' then yes = ms(yes + 1) end
local final = decision ~= 'approved' or tonumber(yes) >= tonumber(quorum)
local body = '{"e":"' .. (final and 'ApprovalDecided' or 'ApprovalVoted') .. '","seq":' .. seq .. ARGV[7] .. ARGV[8] .. '}'
redis.call('HSET', key, 'yes', yes, 'voters', voters .. approver .. '\n', 'votes', votes .. entry(body) .. '\n', op, 'OK')
if final then
  close_ask(id, ref, decision, approver)
  tell(id, r, body)
else
  note(id, r, body)
end
if final then return answer('OK') end
return { 'OK', status, '', '', OUT }
