import { strict as assert } from 'node:assert'
import { describe, it } from 'node:test'
import type { Complaint } from '../../src/fleet/breaker.ts'
import type { CallOutcome } from '../../src/fleet/call-window.ts'
import { Instance } from '../../src/fleet/instance.ts'
import { forgive, recordFailure, tripOutlier } from '../../src/fleet/outlier.ts'
import type { Connections } from '../../src/fleet/transport.ts'

const limits = {
  ejectAfterFailures: 3,
  ejectBaseMs: 1_000,
  ejectShareMax: 0.5,
  breakerWindowMs: 10_000,
  breakerCallsMin: 10,
  breakerShare: 0.5,
  breakerOpenMs: 1_000,
}

/** What an instance is in the fleet, and how its last call went. */
type Peer = 'well' | 'slow' | 'idle' | 'unready' | 'ejected' | 'open' | 'half_open'

function makePeer(kind: Peer, index: number): Instance {
  const endpoint = { origin: 'http://x', basePath: '', socketPath: null, apiKey: null }
  const spec = { id: `${kind}-${index}`, kind: 'remote', endpoint, weight: 1, inFlightMax: 1, slots: 8, areSlotsKnown: true, probe: 'off', models: new Map() } as const // prettier-ignore
  const instance = new Instance(spec, {} as Connections)
  instance.become(kind === 'unready' ? 'unready' : 'ready')
  const { breaker } = instance
  const note = (outcome: CallOutcome) => breaker.note(outcome, {}, 0, limits)
  if (kind === 'well') note('success')
  if (kind === 'slow') note('slow')
  if (kind === 'ejected') instance.ejectedUntilMs = 10_000
  if (kind === 'open' || kind === 'half_open') breaker.trip(kind === 'open' ? 0 : -1_000, limits)
  if (kind === 'half_open') breaker.enter({}, 0)
  return instance
}

describe('the breaker of an outlier', () => {
  const cases: { complaint: Complaint; others: Peer[]; opens: boolean; shareMax?: number }[] = [
    { complaint: 'failing', others: [], opens: false },
    { complaint: 'failing', others: [], opens: false, shareMax: 1 },
    { complaint: 'failing', others: ['well'], opens: true },
    { complaint: 'failing', others: ['unready'], opens: false },
    { complaint: 'failing', others: ['unready'], opens: false, shareMax: 1 },
    { complaint: 'failing', others: ['ejected'], opens: false, shareMax: 1 },
    { complaint: 'failing', others: ['open'], opens: false, shareMax: 1 },
    { complaint: 'failing', others: ['open', 'well'], opens: false },
    { complaint: 'failing', others: ['open', 'well'], opens: true, shareMax: 1 },
    { complaint: 'failing', others: ['open', 'well', 'well'], opens: true },
    { complaint: 'failing', others: ['half_open', 'well', 'well'], opens: true },
    { complaint: 'failing', others: ['half_open', 'ejected', 'well'], opens: false },
    { complaint: 'failing', others: ['slow', 'slow'], opens: true },
    { complaint: 'failing', others: ['well'], opens: false, shareMax: 0 },
    { complaint: 'slow', others: ['well'], opens: true },
    { complaint: 'slow', others: ['idle'], opens: true },
    { complaint: 'slow', others: ['slow'], opens: false },
    { complaint: 'slow', others: ['slow', 'well'], opens: true },
    { complaint: 'slow', others: ['slow', 'slow', 'well'], opens: false },
    { complaint: 'slow', others: ['open', 'slow', 'slow', 'slow'], opens: false },
    { complaint: 'slow', others: ['open', 'slow', 'well', 'well'], opens: true },
  ]
  for (const { complaint, others, opens, shareMax = limits.ejectShareMax } of cases) {
    it(`${opens ? 'opens' : 'stays closed'}: ${complaint} beside ${others.join(', ') || 'nobody'}, share ${shareMax}`, () => {
      const instance = makePeer('idle', 0)
      instance.failuresConsecutive = 2
      const peers = [instance, ...others.map((kind, i) => makePeer(kind, i + 1))]
      const openMs = tripOutlier(instance, complaint, peers, { ...limits, ejectShareMax: shareMax }, 0)
      assert.equal(openMs, opens ? 1_000 : 0)
      assert.equal(instance.breaker.state, opens ? 'open' : 'closed')
      assert.equal(
        instance.failuresConsecutive,
        opens ? 0 : 2,
        'what has opened it does not eject it as well',
      )
    })
  }

  it('does not keep a dead instance from being ejected', () => {
    const peers = [makePeer('idle', 0), makePeer('open', 1)] as [Instance, Instance]
    assert.deepEqual([1, 2, 3].map(() => recordFailure(peers[0], peers, limits, 0)), [0, 0, 1_000]) // prettier-ignore
  })

  it('is closed for a new process under the old name', () => {
    const instance = makePeer('half_open', 0)
    forgive(instance)
    assert.deepEqual([instance.breaker.state, instance.isAvailable(0)], ['closed', true])
  })
})
