-- SPDX-License-Identifier: MIT
-- How to wait: the one seam between the library, written in direct style, and
-- the program that it runs in. See csms.runtime.blocking for what it offers.

return require "csms.runtime.blocking"
