import type { AdmissionSettings } from '../src/gateway/admission/model-gate.ts'
import type { Finding } from './finding.ts'
import { admissionDefaults, drawArrivals, measureCapacity, merge } from './simulation/overload-load.ts'
import { seedRandom } from './simulation/random.ts'
import { simulateOverload, type Fate, type OverloadRequest } from './simulation/simulate-overload.ts'
import { quantile } from './statistics.ts'
import { formatRatio, printTable } from './table.ts'

/**
 * What five times the load that a fleet can bear does to those who ask, and what one greedy tenant does to another,
 * with and without admission; on simulated instances, around the real door. Seeded: it prints the same figures on
 * every machine.
 */

const instances = 4
const ttftTargetMs = 2_000
/** Clients hang up after this long without a first byte. */
const patienceMs = 30_000
const goodputTarget = 0.9
const neighbourTarget = 1.1
/** Looked at: from 5 s into the overload to its end. */
const seen = { fromMs: 25_000, toMs: 60_000 }

const doors: readonly { name: string; admission: AdmissionSettings }[] = [
  { name: 'without', admission: { ...admissionDefaults, enabled: false } },
  { name: 'defaults', admission: admissionDefaults },
  { name: 'with a target of 2 s', admission: { ...admissionDefaults, ttftTargetMs } },
]

export async function benchOverload({ quick }: { quick: boolean }): Promise<Finding[]> {
  const capacity = measureCapacity({ random: seedRandom(1) }) * instances
  return [
    ...(await benchTiers(capacity)),
    ...(await benchNeighbour(capacity, quick ? [1, 2] : [1, 2, 3, 4, 5, 6])),
  ]
}

const simulate = (requests: readonly OverloadRequest[], admission: AdmissionSettings) =>
  simulateOverload({ requests, instances, admission, random: seedRandom(3) })

async function benchTiers(capacity: number): Promise<Finding[]> {
  const random = seedRandom(2)
  const phase = (share: number, fromMs: number, toMs: number) =>
    drawArrivals({
      ...{ perSecond: capacity * share, fromMs, toMs, random, patienceMs },
      tier: (draw) => {
        const drawn = draw()
        return drawn < 0.1 ? 'priority' : drawn < 0.6 ? 'default' : 'flex'
      },
    })
  const requests = merge(phase(0.5, 0, 20_000), phase(5, 20_000, 60_000), phase(0.5, 60_000, 90_000))
  console.log(
    `\nOverload: ${instances} simulated instances that answer ${capacity.toFixed(1)} requests a second, five times as many ` +
      `for 40 s (10 % priority, 50 % default, 40 % flex); streams; clients hang up after ${patienceMs / 1000} s`,
  )
  const rows = []
  const findings: Finding[] = []
  for (const { name, admission } of doors) {
    const fates = await simulate(requests, admission)
    const ended = fates.filter(({ endedAtMs }) => endedAtMs >= seen.fromMs && endedAtMs < seen.toMs)
    const good = ended.filter(isAnswered)
    const inTime = good.filter(({ ttftMs }) => ttftMs <= ttftTargetMs)
    const share = (some: readonly Fate[]) => some.length / ((seen.toMs - seen.fromMs) / 1000) / capacity
    const during = fates.filter(({ request: { atMs } }) => atMs >= seen.fromMs && atMs < seen.toMs)
    const ttfts = during.filter(isAnswered).map(({ ttftMs }) => ttftMs)
    const after = fates.filter(({ request: { atMs } }) => atMs >= 70_000)
    const [p50, p99] = [quantile(ttfts, 0.5), quantile(ttfts, 0.99)]
    const refused = (['priority', 'default', 'flex'] as const).map((tier) =>
      formatShare(
        1 -
          shareOf(
            during.filter(({ request }) => request.tier === tier),
            isAnswered,
          ),
      ),
    )
    rows.push([name, formatShare(share(good)), formatShare(share(inTime)), formatS(p50), formatS(p99), ...refused, formatShare(1 - shareOf(after, isAnswered))]) // prettier-ignore
    if (admission.ttftTargetMs === 0) continue
    findings.push(
      { what: 'goodput at 5× the capacity', figure: formatShare(share(inTime)), reference: `of ${capacity.toFixed(1)} requests a second, in time`, target: `at least ${goodputTarget * 100} %`, met: share(inTime) >= goodputTarget },
      { what: 'p99 TTFT of those let in at 5× the capacity', figure: formatS(p99), reference: `p50 ${formatS(p50)}`, target: `at most ${ttftTargetMs / 1000} s`, met: p99 <= ttftTargetMs },
    ) // prettier-ignore
  }
  printTable(
    ['admission', 'answered', `within ${ttftTargetMs / 1000} s`, 'p50', 'p99', 'refused: priority', 'default', 'flex', '10 s later'],
    rows,
  ) // prettier-ignore
  return findings
}

async function benchNeighbour(capacity: number, seeds: readonly number[]): Promise<Finding[]> {
  console.log(
    `\nTwo tenants of equal weight: one asks for a quarter of what the fleet can do, the other for its rest, and for a ` +
      `hundred times its share; seeds ${seeds.join(', ')}, from 10 s after it began`,
  )
  const rows = []
  const p99s = new Map<string, number>()
  for (const { name, admission } of doors) {
    for (const [others, share] of [
      ['the rest', 0.75],
      ['100× its share', 50],
    ] as const) {
      const all: Fate[] = []
      for (const seed of seeds) {
        const tenant = (name: string, share: number, fromMs: number, toMs: number, offset: number) =>
          drawArrivals({ perSecond: capacity * share, fromMs, toMs, random: seedRandom(seed + offset), tenant: name, patienceMs }) // prettier-ignore
        const fates = await simulate(
          merge(
            tenant('warm-up', 0.5, 0, 15_000, 20),
            tenant('modest', 0.25, 15_000, 45_000, 0),
            tenant('other', share, 15_000, 45_000, 10),
          ),
          admission,
        )
        all.push(...fates.filter(({ request: { atMs } }) => atMs >= 25_000))
        // Lets a signal in between two.
        await new Promise(setImmediate)
      }
      const cells = ['modest', 'other'].flatMap((tenant) => {
        const own = all.filter(({ request }) => request.tenant === tenant)
        const ttfts = own.filter(isAnswered).map(({ ttftMs }) => ttftMs)
        if (tenant === 'modest') p99s.set(`${name} ${others}`, quantile(ttfts, 0.99))
        return [formatS(quantile(ttfts, 0.5)), formatS(quantile(ttfts, 0.99)), formatShare(1 - shareOf(own, isAnswered))] // prettier-ignore
      })
      rows.push([`${name}, the other asks for ${others}`, ...cells])
    }
  }
  printTable(['admission', 'modest: p50', 'p99', 'refused', 'the other: p50', 'p99', 'refused'], rows)
  const [fair, greedy] = ['the rest', '100× its share'].map((others) => p99s.get(`defaults ${others}`)!)
  const ratio = greedy! / fair!
  return [
    {
      what: 'p99 TTFT beside a tenant at 100× its share',
      figure: formatS(greedy!),
      reference: `${formatRatio(ratio)} beside one that keeps to it (${formatS(fair!)})`,
      target: `at most ${neighbourTarget.toFixed(2)}×`,
      met: ratio <= neighbourTarget,
    },
  ]
}

const isAnswered = ({ outcome }: Fate) => outcome === 'answered'
const shareOf = (some: readonly Fate[], is: (fate: Fate) => boolean) => some.filter(is).length / some.length
const formatShare = (share: number) => `${(share * 100).toFixed(1)} %`
const formatS = (ms: number) => (Number.isNaN(ms) ? '–' : `${(ms / 1000).toFixed(2)} s`)

if (import.meta.main) await benchOverload({ quick: process.argv.includes('--quick') })
