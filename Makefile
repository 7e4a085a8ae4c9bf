# csms: make            builds the module for Lua 5.4 and LuaJIT
#       make demo       backs up a secret from an emulated service
#       make test       runs the specs on both Luas
#       make install    DESTDIR= PREFIX=/usr/local
#       make lint, test-signers, asan, gc-stress, valgrind, tsan, torture, fuzz,
#       coverage, check-install, bench, bench-quick, soak, bench-openresty,
#       emulator, env, clean
# All but make itself, install, env and clean install the Debian packages they miss.

PREFIX ?= /usr/local
DESTDIR ?=
# A ~/ that the shell left as it is, as dash does in PREFIX=~/x.
at_home = $(if $(filter ~/%,$(1)),$(patsubst ~/%,$(HOME)/%,$(1)),$(1))
override PREFIX := $(call at_home,$(PREFIX))
override DESTDIR := $(call at_home,$(DESTDIR))

BUILD ?= .build
CFLAGS ?= -O2 -g
CPPFLAGS ?=
LDFLAGS ?=
PKG_CONFIG ?= pkg-config

# A Lua is named after the API version of its modules; 5.1 is LuaJIT's.
LUAS ?= 5.4 5.1
PACKAGE_5.4 := lua5.4
PACKAGE_5.1 := luajit
LUA_INC_5.4 ?= $(shell $(PKG_CONFIG) --cflags $(PACKAGE_5.4))
LUA_INC_5.1 ?= $(shell $(PKG_CONFIG) --cflags $(PACKAGE_5.1))
LUA_BIN_5.4 := lua5.4
LUA_BIN_5.1 := luajit

WARNINGS := -Wall -Wextra -Wshadow -Wconversion
HARDENING := -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
# The prefix map: the same source gives the same bytes in any folder.
ALL_CFLAGS = -std=c11 -D_GNU_SOURCE -fPIC -fvisibility=hidden -pthread \
	'-ffile-prefix-map=$(CURDIR)=.' $(WARNINGS) $(HARDENING) $(CFLAGS)
# nodelete: a thread of libcurl's may outlive the Lua state that loaded us.
ALL_LDFLAGS = -shared -pthread -Wl,-z,nodelete -Wl,-z,relro -Wl,-z,now $(LDFLAGS)
LIBS_CFLAGS := $(shell $(PKG_CONFIG) --cflags libcurl libcrypto)
LIBS := $(shell $(PKG_CONFIG) --libs libcurl libcrypto) -lm -ldl

ENGINE := $(wildcard src/csms_*.c)
BINDING := $(wildcard src/lcsms_*.c)
HEADERS := $(wildcard src/*.h)
MODULES := $(shell cd lua && find csms -name '*.lua' | sort)

BUILD_PACKAGES := gcc make pkg-config libcurl4-openssl-dev libssl-dev \
	liblua5.4-dev libluajit2-5.1-dev
RUN_PACKAGES := lua5.4 luajit2 lua-cjson lua-argparse
EMULATOR_PACKAGES := nginx-light libnginx-mod-http-lua lua-luaossl openssl
SPEC_PACKAGES := lua-busted lua-socket lua-cqueues curl strace
LINT_PACKAGES := lua-check cppcheck clang clang-tidy clang-format

# The module from this checkout, for Lua 5.4.
BUILT := $(if $(filter /%,$(BUILD)),,$(CURDIR)/)$(BUILD)
lua_env := LUA_PATH='./lua/?.lua;./lua/?/init.lua;./?.lua;;' \
	LUA_CPATH='$(BUILT)/5.4/?.so;;'

.PHONY: all install install-bin rock rock-install demo test test-signers lint asan valgrind \
	gc-stress tsan torture fuzz coverage check-install bench bench-quick soak bench-openresty \
	emulator clean env build-packages test-packages

all: $(LUAS:%=$(BUILD)/%/csms/core.so)

$(BUILD)/engine/%.o: src/%.c $(HEADERS) Makefile
	@mkdir -p $(@D)
	@echo '  CC $@'
	@$(CC) $(CPPFLAGS) $(LIBS_CFLAGS) $(ALL_CFLAGS) -c -o $@ $<

# One rule set a Lua: bindings see its headers, the engine sees none.
define lua_rules
$(BUILD)/$(1)/%.o: src/%.c $(HEADERS) Makefile
	@mkdir -p $$(@D)
	@echo '  CC $$@'
	@$$(CC) $$(CPPFLAGS) $$(LUA_INC_$(1)) $$(LIBS_CFLAGS) $$(ALL_CFLAGS) -c -o $$@ $$<

$(BUILD)/$(1)/csms/core.so: $(ENGINE:src/%.c=$(BUILD)/engine/%.o) $(BINDING:src/%.c=$(BUILD)/$(1)/%.o)
	@mkdir -p $$(@D)
	@echo '  LD $$@'
	@$$(CC) $$(ALL_CFLAGS) $$(ALL_LDFLAGS) -o $$@ $$^ $$(LIBS)

install-$(1): $(BUILD)/$(1)/csms/core.so
	install -d '$$(DESTDIR)$$(PREFIX)/lib/lua/$(1)/csms'
	install -m 755 $$< '$$(DESTDIR)$$(PREFIX)/lib/lua/$(1)/csms/core.so'
	for module in $(MODULES); do \
		install -D -m 644 lua/$$$$module '$$(DESTDIR)$$(PREFIX)/share/lua/$(1)'/$$$$module || exit 1; \
	done
endef
$(foreach lua,$(LUAS),$(eval $(call lua_rules,$(lua))))

# The command line, which is for Lua 5.4.
install-bin:
	install -D -m 755 lua/csms/cli.lua '$(DESTDIR)$(PREFIX)/bin/csms'

install: $(LUAS:%=install-%) $(if $(filter 5.4,$(LUAS)),install-bin)

# What LuaRocks calls (csms-scm-1.rockspec): one Lua, into its own folders.
ifdef LUA
ROCK_LUA := $(shell '$(LUA)' -e 'io.write((_VERSION:gsub("Lua ", "")))')
ifdef LUA_INCDIR
LUA_INC_$(ROCK_LUA) := '-I$(LUA_INCDIR)'
endif
else ifneq ($(filter rock rock-install,$(MAKECMDGOALS)),)
$(error rock and rock-install are for LuaRocks, which names a LUA: luarocks --lua-version 5.4 make)
endif

rock: $(BUILD)/$(ROCK_LUA)/csms/core.so

rock-install: rock
	install -d '$(INST_LIBDIR)/csms'
	install -m 755 $(BUILD)/$(ROCK_LUA)/csms/core.so '$(INST_LIBDIR)/csms/core.so'
	for module in $(MODULES); do \
		install -D -m 644 lua/$$module '$(INST_LUADIR)'/$$module || exit 1; \
	done
ifeq ($(ROCK_LUA),5.4)
	install -D -m 755 lua/csms/cli.lua '$(INST_BINDIR)/csms'
endif

build-packages:
	@.ci/packages $(BUILD_PACKAGES)

test-packages: build-packages
	@.ci/packages $(RUN_PACKAGES) $(EMULATOR_PACKAGES) $(SPEC_PACKAGES)

# SPECS=spec/client_spec.lua runs one file, LUAS=5.4 on one Lua.
SPECS ?= spec
test: test-packages
	@$(MAKE) --no-print-directory all
	@spec/run "$(BUILD)" "$(LUAS)" $(SPECS)

# Against the official Node signer, from the npm registry.
test-signers: test-packages
	@$(MAKE) --no-print-directory all
	@spec/signers/run $(SIGNERS_ARGS)

demo: test-packages
	@$(MAKE) --no-print-directory $(BUILD)/5.4/csms/core.so
	@$(lua_env) lua5.4 spec/demo.lua

# An emulated service for a person; Ctrl-C ends it.
emulator: test-packages
	@spec/emulator/emulator run $(EMULATOR_ARGS)

# ---- checks -----------------------------------------------------------------

lint: build-packages
	@.ci/packages $(LINT_PACKAGES)
	luacheck --quiet lua spec
	clang-format --dry-run -Werror src/*.[ch] spec/support/*.c spec/fuzz/*.[ch] spec/bench/*.c \
		spec/torture/*.c
	cppcheck --quiet --error-exitcode=1 --std=c11 --inline-suppr \
		--enable=warning,performance,portability \
		--suppress=missingIncludeSystem -D__GNUC__ -DLUA_VERSION_NUM=504 src
	printf '%s\n' src/*.c | xargs -P 4 -I {} clang-tidy --quiet {} -- \
		-std=c11 -D_GNU_SOURCE -DCURL_DISABLE_TYPECHECK $(LUA_INC_5.4) $(LIBS_CFLAGS)
	for compiler in gcc clang; do \
		$(MAKE) --no-print-directory BUILD=$(BUILD)/$$compiler CC=$$compiler \
			CFLAGS='-O2 -g -Werror' all || exit 1; \
	done
	! grep -lE 'lua\.h|lauxlib\.h' src/csms_*.[ch]
	! grep -nE '\b(abort|exit)\(' src/*.c

# The installed copies, by make and by LuaRocks, pass the client's specs, and their
# commands run. LuaRocks takes what the rock needs for given, as Debian has it.
INSTALLED := $(BUILT)/installed
check-install: test-packages
	@.ci/packages luarocks
	@rm -rf '$(INSTALLED)'
	@$(MAKE) --no-print-directory install LUAS=5.4 PREFIX='$(INSTALLED)/make' >/dev/null
	@echo 'rocks_provided = { ["lua-cjson"] = "2.1-1", argparse = "0.7-1" }' \
		>'$(INSTALLED)/luarocks.lua'
	@LUAROCKS_CONFIG='$(INSTALLED)/luarocks.lua' luarocks --lua-version 5.4 make \
		--tree '$(INSTALLED)/rocks' >/dev/null
	@for tree in '$(INSTALLED)/make' '$(INSTALLED)/rocks'; do \
		echo "== $$tree"; \
		LUA_PATH="$$tree/share/lua/5.4/?.lua;$$tree/share/lua/5.4/?/init.lua;./?.lua;;" \
		LUA_CPATH="$$tree/lib/lua/5.4/?.so;;" \
		lua5.4 "$$(command -v busted)" --output=plainTerminal \
			spec/client_spec.lua spec/cli_spec.lua || exit 1; \
		env -u LUA_PATH -u LUA_CPATH "$$tree/bin/csms" --version || exit 1; \
	done

# Each call of the C core that can fail fails once, in each operation, and Lua's
# allocations too; TORTURE=long tries all of them.
torture: test-packages
	@.ci/packages $(LINT_PACKAGES) libclang-rt-dev
	@$(MAKE) --no-print-directory $(BUILD)/5.4/csms/core.so
	+@spec/torture/build $(BUILD)/torture
	@$(lua_env) lua5.4 spec/torture/run $(BUILD)/torture $(TORTURE)

# libFuzzer; FUZZ_SECONDS=1800 is the long form, FUZZ_SECONDS=replay runs what was
# found once. FUZZ_TARGETS names some of spec/fuzz's.
FUZZ_SECONDS ?= 5
FUZZ_TARGETS ?=
fuzz: test-packages
	@.ci/packages $(LINT_PACKAGES) libclang-rt-dev
	+@spec/fuzz/run "$(BUILD)/fuzz" $(FUZZ_SECONDS) $(FUZZ_TARGETS)

# A Lua 5.4 that is itself built with the sanitizers, so that nothing has to be
# preloaded, which the specs' child processes would inherit.
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=undefined \
	-fno-omit-frame-pointer
# All but those whose work is in programs that they start, or about the build.
ASAN_SPECS ?= $(filter-out spec/cli_% spec/store_kill% spec/store_faults% \
	spec/instructions% spec/binary% spec/strace% spec/run%,$(wildcard spec/*_spec.lua))
asan: test-packages
	@.ci/packages $(LINT_PACKAGES) libclang-rt-dev
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/asan CC=clang LUAS=5.4 \
		CFLAGS='-O1 -g $(SANITIZE)' HARDENING= all
	clang -O1 -g $(SANITIZE) $(LUA_INC_5.4) -o $(BUILD)/asan/lua \
		spec/support/host.c $(shell $(PKG_CONFIG) --libs lua5.4)
	@LUA_BIN=$(BUILD)/asan/lua spec/run "$(BUILD)/asan" 5.4 $(ASAN_SPECS)

# The core's functions where all garbage is collected wherever Lua may and before
# each new object (spec/support/gc_stress.c): what C holds must be anchored. About
# two minutes on two cores. Left out are specs that move thousands of secrets, and
# those that are about time.
GC_SPECS ?= $(patsubst %,spec/%_spec.lua,file secrecy http blob metadata client errors \
	engine_thread auth profile credentials pod_identity signal runtime listing core_sign core_host)
gc-stress: test-packages
	@.ci/packages $(LINT_PACKAGES) libclang-rt-dev
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/asan CC=clang LUAS=5.4 \
		CFLAGS='-O1 -g $(SANITIZE)' HARDENING= all
	clang -O1 -g $(SANITIZE) -D_GNU_SOURCE -DluaL_newstate=stressed_newstate \
		$(LUA_INC_5.4) -o $(BUILD)/asan/gc spec/support/host.c spec/support/gc_stress.c \
		$(shell $(PKG_CONFIG) --libs lua5.4)
	@LUA_BIN=$(BUILD)/asan/gc spec/run "$(BUILD)/asan" 5.4 $(GC_SPECS)

# Which lines and branches of the C core the specs and the torture run
# (TORTURE=long as there); what one line did in the objects of both is added up.
# spec/coverage.txt names what is left. Less than 95 % or 85 % is a failure.
COVERAGE := -O0 -g --coverage -fprofile-update=atomic
coverage: test-packages
	@.ci/packages gcovr $(LINT_PACKAGES) libclang-rt-dev
	@rm -rf '$(BUILD)/coverage'
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/coverage HARDENING= \
		CFLAGS='$(COVERAGE)' LDFLAGS=--coverage all
	+@spec/torture/build $(BUILD)/coverage/torture '$(CC)' '$(COVERAGE)'
	@# What a spec does as another user counts too.
	@LUA_CPATH='$(BUILT)/coverage/5.4/?.so' lua5.4 -e 'require "csms.core"'
	@LUA_CPATH='$(BUILT)/coverage/5.1/?.so' luajit -e 'require "csms.core"'
	@chmod -R a+rwX '$(BUILD)/coverage'
	@{ spec/run "$(BUILD)/coverage" 5.4 $(filter-out spec/strace%,$(ASAN_SPECS)); \
		spec/run "$(BUILD)/coverage" 5.1 spec/openresty_spec.lua \
			spec/engine_thread_spec.lua spec/file_spec.lua; \
		LUA_PATH='./lua/?.lua;./lua/?/init.lua;./?.lua;;' \
		LUA_CPATH='$(BUILT)/coverage/5.4/?.so;;' \
		lua5.4 spec/torture/run $(BUILD)/coverage/torture $(TORTURE); \
	} >$(BUILD)/coverage/log; grep ' passed, ' $(BUILD)/coverage/log
	@gcovr --root . --filter src/ --exclude-unreachable-branches \
		--exclude-throw-branches --print-summary \
		--fail-under-line 95 --fail-under-branch 85 $(BUILD)/coverage; \
	code=$$?; cat spec/coverage.txt; exit $$code

VALGRIND := valgrind --quiet --error-exitcode=9 --leak-check=full \
	--errors-for-leak-kinds=definite --num-callers=30
# The engine's thread under ThreadSanitizer: submit, cancel, close and collect
# from random moments, from several OS threads with Lua states of their own.
TSAN := -fsanitize=thread -fno-omit-frame-pointer
STRESS_SECONDS ?= 20
tsan: test-packages
	@.ci/packages $(LINT_PACKAGES) libclang-rt-dev
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/tsan CC=clang LUAS=5.4 \
		CFLAGS='-O1 -g $(TSAN)' HARDENING= all
	clang -O1 -g $(TSAN) -pthread $(LUA_INC_5.4) -o $(BUILD)/tsan/stress \
		spec/support/thread_stress.c $(shell $(PKG_CONFIG) --libs lua5.4)
	@LUA_PATH='./lua/?.lua;./lua/?/init.lua;./?.lua;;' \
		LUA_CPATH='$(BUILT)/tsan/5.4/?.so;;' STRESS_SECONDS=$(STRESS_SECONDS) \
		lua5.4 spec/support/run_thread_stress.lua $(BUILD)/tsan/stress 4

# Ratios against a hand-written cosocket exchange; BENCH_ARGS=quick is shorter.
bench-openresty: test-packages
	@.ci/packages wrk
	@$(MAKE) --no-print-directory all
	@$(lua_env) lua5.4 spec/bench/openresty/run.lua $(BENCH_ARGS)

# What the library takes beside C on libcurl, other tools, and the algorithm itself.
bench bench-quick: test-packages
	@.ci/packages nghttp2-client lua-curl valgrind binutils
	@$(MAKE) --no-print-directory all
	@BUILD='$(BUILD)' $(lua_env) lua5.4 spec/bench/run.lua $(if $(filter bench-quick,$@),quick)

# A million calls in plain Lua and in nginx: what must not grow.
soak: test-packages
	@.ci/packages wrk
	@$(MAKE) --no-print-directory all
	@$(lua_env) lua5.4 spec/bench/soak.lua $(SOAK_CALLS)

# The specs that exercise C most.
VALGRIND_SPECS ?= spec/client_spec.lua spec/core_sign_spec.lua spec/credentials_spec.lua
valgrind: test-packages
	@.ci/packages valgrind
	@$(MAKE) --no-print-directory LUAS=5.4 all
	@LUA_BIN='$(VALGRIND) lua5.4' spec/run "$(BUILD)" 5.4 $(VALGRIND_SPECS)

# Shell lines that let any Lua find this checkout: eval "$$(make -s env)"
env:
	@echo "export LUA_PATH='$(CURDIR)/lua/?.lua;$(CURDIR)/lua/?/init.lua;;'"
	@echo "export LUA_CPATH_5_4='$(BUILT)/5.4/?.so;;'"
	@echo "export LUA_CPATH='$(BUILT)/5.1/?.so;;'"

clean:
	rm -rf '$(BUILD)'
