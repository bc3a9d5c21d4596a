#include "target/target.h"

void target_free(struct target *target)
{
	if (target)
		target->ops->free(target);
}
