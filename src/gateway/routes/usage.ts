import type { FastifyInstance, FastifyRequest } from 'fastify'
import { toPage } from '../page-query.ts'
import type { ApiParts } from '../parts.ts'
import { ReadsAtOnce } from '../reads-at-once.ts'
import type { Query } from '../task-query.ts'
import { describeUsage, usageSchema } from '../usage/usage-object.ts'
import { parseUsageQuery } from '../usage/usage-query.ts'

type UsageParts = Pick<ApiParts, 'store' | 'clock'>

/** What a tenant has used; for those who hold `admin`, what any has. As of a second ago: that is how often it is written. */
export function addUsageRoutes(app: FastifyInstance, { store, clock }: UsageParts): void {
  const reads = new ReadsAtOnce()
  app.get('/v1/usage', { schema: usageSchema, exposeHeadRoute: false }, (request) => list(request))

  async function list({ record, query: given }: FastifyRequest) {
    const query = parseUsageQuery(given as Query, { caller: record.caller, nowMs: clock.wallMs() })
    const sums = await reads.run(record.caller.tenant, () =>
      store.usage.sum({ ...query, limit: query.limit + 1 }),
    )
    const data = sums.slice(0, query.limit).map((sum) => describeUsage(sum, query))
    return toPage(data, sums.length > query.limit)
  }
}
