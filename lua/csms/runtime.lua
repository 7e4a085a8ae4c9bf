-- SPDX-License-Identifier: MIT
-- How to wait: the one seam between the library, written in direct style, and
-- the program that it runs in. What a runtime offers: csms.runtime.blocking.

local core = require "csms.core"

return require("csms.runtime.blocking").new(core)
