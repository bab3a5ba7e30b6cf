-- Who may write.

-- The fence of every owner's script: nil when `op` may be applied now, else the reply to give.
-- STALE: another owner. AGAIN: this very call was applied before. GAP: an earlier call is still missing.
-- An owner that gave its run back may have numbered later writes: those were not applied, hence finop.
local function fence(id, r, epoch, op)
  if not r then return { 'STALE', 'gone' } end
  if r.epoch ~= epoch then
    if r.fin == epoch and op <= tonumber(r.finop or '0') then
      return { 'AGAIN', ms(redis.call('LLEN', P .. 'log:' .. id)) }
    end
    return { 'STALE', r.status }
  end
  local last = tonumber(r.op or '0')
  if op <= last then return { 'AGAIN', ms(redis.call('LLEN', P .. 'log:' .. id)) } end
  if op ~= last + 1 then return { 'GAP', ms(last) } end
  return nil
end
