# frozen_string_literal: true

# Many renderings in one process: [{"job", "properties", "links", "spec"}] on stdin, [{"files"} or {"error"}] on stdout.
require_relative '../../bosh/scripts/render-job'

results = JSON.parse($stdin.read).map do |wish|
  { 'files' => Render.job(wish['job'], wish['properties'], links: wish['links'] || {}, instance: wish['spec'] || {}) }
rescue Render::Mistake => e
  { 'error' => e.message }
end
puts JSON.generate(results)
