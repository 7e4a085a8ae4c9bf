-- SPDX-License-Identifier: MIT
-- How to wait: the one seam between the library, written in direct style, and
-- the program that it runs in. What a runtime offers: csms.runtime.blocking.

local ngx = rawget(_G, "ngx")

if ngx and ngx.get_phase then return require "csms.runtime.nginx" end
return require("csms.runtime.blocking").new(require "csms.core")
