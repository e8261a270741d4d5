-- Written by dkim-operator sync. Changes are lost.
-- Load it with dofile in rspamd.local.lua, and say in local.d/dkim_signing.conf:
--   sign_condition = "return function(task) return dkim_operator_signatures(task) end";
local lua_maps = require "lua_maps"
local signatures = lua_maps.map_add_from_ucl("@MAP@", "map", "DKIM signatures to make, by the author's domain")

-- Mail of our own users and networks alone is signed: never what comes in from outside.
local function is_outbound(task)
  local ip = task:get_from_ip()
  return task:get_user() or (ip and ip:is_valid() and ip:is_local())
end

function dkim_operator_signatures(task)
  if not signatures or not is_outbound(task) then return nil end
  for _, author in ipairs(task:get_from('mime') or {}) do
    local row = author.domain and signatures:get_key(author.domain:lower())
    if row then
      local list = {}
      for d, s, k in row:gmatch("d=(%S+) s=(%S+) k=([^;%s]+)") do
        list[#list + 1] = { domain = d, selector = s, key = k }
      end
      if #list > 0 then return list end
    end
  end
  return nil
end
