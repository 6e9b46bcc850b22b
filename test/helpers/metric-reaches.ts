import { readMetric } from './gateway.ts'
import { eventually } from './server.ts'

/** What a request has counted is there when the server has closed its record, which may be after its client has all. */
export async function metricReaches(url: string, series: string, value: number): Promise<void> {
  let seen: number | null = null
  const isReached = async () => (seen = await readMetric(url, series)) === value
  await eventually('', isReached).catch(() => {
    throw new Error(`${series} is ${seen}, not ${value}`)
  })
}
