/*
 * allowmap.c - unit tests of conf/allowmap.c and of lpm's changes
 *
 * Random puts and deletions against a model that walks a list, with prefixes
 * that nest and collide; and what of another process's items is refused.
 */
#include "conf/allowmap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { MODEL = 400, STEPS = 60000 };

static uint64_t seed = 0xa110;

static uint32_t
rnd(void)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(seed >> 33);
}

static struct allow_item
random_item(void)
{
	static const uint8_t lens4[] = { 8, 16, 24, 30, 32 };
	static const uint8_t lens6[] = { 32, 48, 56, 128 };
	struct allow_item i;
	struct addr a;

	memset(&i, 0, sizeof(i));
	memset(&a, 0, sizeof(a));
	a.family = rnd() % 2 ? AF_INET : AF_INET6;
	for (int b = 0; b < (a.family == AF_INET ? 4 : 8); b++)
		a.ip[b] = (uint8_t)(rnd() % 3);
	prefix_of_addr(&i.prefix, &a, a.family == AF_INET ?
		lens4[rnd() % 5] : lens6[rnd() % 4]);
	i.action = (uint8_t)(rnd() % 3);
	i.until = rnd() % 3 == 0 ? 50 + rnd() % 100 : 0;
	return i;
}

struct model {
	struct allow_item item[MODEL];
	size_t n;
};

static size_t
model_at(const struct model *m, const struct prefix *p)
{
	size_t i = 0;

	while (i < m->n && !prefix_equal(&m->item[i].prefix, p))
		i++;
	return i;
}

static const struct allow_item *
model_find(const struct model *m, const struct addr *a, unsigned shorter,
	int64_t now)
{
	const struct allow_item *best = NULL;

	for (size_t i = 0; i < m->n; i++) {
		const struct allow_item *x = &m->item[i];

		if (prefix_contains(&x->prefix, a) && x->prefix.len < shorter &&
		    (x->until == 0 || x->until > now) &&
		    (best == NULL || x->prefix.len > best->prefix.len))
			best = x;
	}
	return best;
}

static void
check_look_ups(const struct allowmap *m, const struct model *model)
{
	struct allow_item probe = random_item();
	struct addr a = { .family = probe.prefix.family };
	const struct allow_item *want, *have;

	memcpy(a.ip, probe.prefix.ip, sizeof(a.ip));
	want = model_find(model, &a, 129, 100);
	have = allowmap_find(m, &a, 100);
	assert_int_equal(want == NULL, have == NULL);
	if (want != NULL)
		assert_memory_equal(want, have, sizeof(*want));
	want = model_find(model, &a, probe.prefix.len, 100);
	have = allowmap_around(m, &probe.prefix, 100);
	assert_int_equal(want == NULL, have == NULL);
	if (want != NULL)
		assert_memory_equal(want, have, sizeof(*want));
}

static void
agrees_with_a_model(void **state)
{
	static struct model model;
	struct allowmap *m = allowmap_new();
	size_t n;

	(void)state;
	assert_non_null(m);
	for (int step = 0; step < STEPS; step++) {
		struct allow_item i = random_item();
		size_t at = model_at(&model, &i.prefix);

		if (rnd() % 2 && (at < model.n || model.n < MODEL)) {
			assert_int_equal(allowmap_put(m, &i), 0);
			model.item[at] = i;
			model.n += at == model.n;
		} else {
			assert_int_equal(allowmap_del(m, &i.prefix),
				at < model.n);
			if (at < model.n)
				model.item[at] = model.item[--model.n];
		}
		check_look_ups(m, &model);
	}
	const struct allow_item *all = allowmap_all(m, &n);

	assert_int_equal(n, model.n);
	for (size_t i = 0; i < n; i++) {
		assert_true(model_at(&model, &all[i].prefix) < model.n);
		assert_ptr_equal(allowmap_get(m, &all[i].prefix), &all[i]);
	}
	allowmap_free(&m);
	assert_null(m);
}

static void
impossible_items_are_refused(void **state)
{
	const struct allow_item good = { .prefix = { .family = AF_INET,
		.len = 24, .ip = { 198, 18, 7, 0 } } };
	struct allow_item i;

	(void)state;
	assert_true(allow_item_valid(&good));
#define BAD(change) do { i = good; change; \
	assert_false(allow_item_valid(&i)); } while (0)
	BAD(i.prefix.family = 0);
	BAD(i.prefix.family = AF_UNIX);
	BAD(i.prefix.len = 0);
	BAD(i.prefix.len = 33);
	BAD(i.prefix.ip[3] = 1);
	BAD(i.prefix.ip[15] = 1);
	BAD(i.prefix.family = AF_INET6; i.prefix.len = 129);
	BAD(i.action = ACTION_BLOCK);
	BAD(i.action = ACTION_DROP);
	BAD(i.action = ACTION_COUNT);
	BAD(i.action = 255);
	BAD(i.from_file = 1);
	BAD(i.pad[3] = 1);
	BAD(i.until = -1);
#undef BAD
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agrees_with_a_model),
		cmocka_unit_test(impossible_items_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
