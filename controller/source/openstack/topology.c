#include "source/openstack/topology.h"

#include "source/openstack/answer.h"

#define NO_MAXIMUM 65536

static const char *const wishes[2][3] = { { "hw:cpu_sockets", "hw:cpu_cores", "hw:cpu_threads" },
					  { "hw_cpu_sockets", "hw_cpu_cores", "hw_cpu_threads" } };
static const char *const maxima[2][3] = { { "hw:cpu_max_sockets", "hw:cpu_max_cores", "hw:cpu_max_threads" },
					  { "hw_cpu_max_sockets", "hw_cpu_max_cores", "hw_cpu_max_threads" } };

/* Three numbers, 0 where there is none. True when there is one. */
static bool read_three(const json_t *object, const char *const keys[3], uint64_t out[3])
{
	bool any = false;

	for (int i = 0; i < 3; i++) {
		out[i] = 0;
		if (answer_number(object, keys[i], &out[i]) && out[i] && out[i] <= NO_MAXIMUM)
			any = true;
		else
			out[i] = 0;
	}
	return any;
}

static unsigned score(const uint64_t wanted[3], const unsigned have[3])
{
	unsigned n = 0;

	for (int i = 0; i < 3; i++)
		n += wanted[i] && wanted[i] == have[i];
	return n;
}

static bool better(const uint64_t wanted[3], const unsigned a[3], const unsigned b[3])
{
	unsigned x = score(wanted, a), y = score(wanted, b);

	if (x != y)
		return x > y;
	if (a[0] * a[1] != b[0] * b[1])
		return a[0] * a[1] > b[0] * b[1];
	return a[0] > b[0];
}

void openstack_topology(unsigned vcpus, const json_t *extra_specs, const json_t *properties, unsigned *sockets, unsigned *cores,
			unsigned *threads)
{
	uint64_t wanted[3], most[3];
	unsigned best[3] = { vcpus, 1, 1 };
	bool found = false;

	if (!read_three(extra_specs, wishes[0], wanted))
		read_three(properties, wishes[1], wanted);
	if (!read_three(extra_specs, maxima[0], most))
		read_three(properties, maxima[1], most);
	for (unsigned s = 1; s <= vcpus; s++) {
		for (unsigned c = 1; vcpus % s == 0 && c <= vcpus / s; c++) {
			unsigned have[3] = { s, c, vcpus / s / c };

			if ((vcpus / s) % c || (most[0] && s > most[0]) || (most[1] && c > most[1]) || (most[2] && have[2] > most[2]))
				continue;
			if (found && !better(wanted, have, best))
				continue;
			found = true;
			for (int i = 0; i < 3; i++)
				best[i] = have[i];
		}
	}
	*sockets = best[0];
	*cores = best[1];
	*threads = best[2];
}
