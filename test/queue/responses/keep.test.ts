import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { ResponseEventLog } from '../../../src/queue/responses/event-log.ts'
import { StoredResponses, type StoredResponse } from '../../../src/queue/responses/stored-responses.ts'
import type { Document, Store } from '../../../src/storage/store.ts'
import { ManualClock } from '../../helpers/clock.ts'

test('a response and its events are kept as long as their tenant says when they are made', async () => {
  const clock = new ManualClock()
  const made: [string, number][] = []
  const insert = ({ kind, expiresAtMs }: Document) => {
    made.push([kind, (expiresAtMs as number) - clock.wallMs()])
    return Promise.resolve(true)
  }
  const store = { documents: { insert } } as unknown as Store
  const times: Record<string, number> = { brief: 60_000, thrifty: 9e9 }
  const keepMs = (tenant: string) => times[tenant] as number
  const responses = new StoredResponses({ store, clock, keepMs })
  const events = new ResponseEventLog({ store, clock, keepMs })
  const stored = { response: { id: 'resp_1' }, context: [], input: [] } as unknown as StoredResponse
  await responses.save('brief', stored)
  await events.open('brief', 'resp_1')
  times['brief'] = 120_000
  await responses.save('brief', stored)
  await responses.save('thrifty', stored)
  assert.deepEqual(made, [
    ['response', 60_000],
    ['response-events', 60_000],
    ['response', 120_000],
    ['response', 9e9],
  ])
})
